"""The summary of a result for the grain `gpu_benchmark`."""

from __future__ import annotations

from pathlib import Path

from vault_cube.bench.fields import Interval, Summary
from vault_cube.bench.judge.result import Metric, Result

SHOWN = {
    ("matmul", "matmul"): ("bfloat16",),
    ("copies", "memory copy"): (None,),
    ("all_reduce", "all reduce"): (None,),
    ("ddp", "efficiency"): (None,),
    ("ddp_boxes", "efficiency"): (None,),
    ("ddp_boxes", "efficiency communication"): (None,),
    ("tensorflow", "efficiency"): (None,),
    ("vllm", "output"): ("one request", "saturated"),
}
"""Suite and quantity -> the cases that the summary has; None: all of them."""


def summary(measured: Result, file: Path) -> Summary:
    """Return verdict, verdicts and the main numbers of a result. Values that were not measured are absent.

    file: of the whole result. A number is `{median, low, high}`, named by its suite and `Metric.label`.
    """
    numbers: dict[str, Interval] = {}
    for (name, quantity), cases in SHOWN.items():
        suite = measured.suites.get(name)
        for metric in suite.of(quantity) if suite else []:
            if None in cases or metric.subject in cases:
                numbers[f"{name}: {metric.label}"] = _number(metric)
    numbers |= {metric.label: _number(metric) for metric in measured.derived if metric.unit.startswith("share")}
    return {
        "verdict": measured.verdict,
        "accelerator": measured.machine.accelerator,
        "simulated": measured.machine.simulated,
        "quick": measured.quick,
        "started": measured.started,
        "file": str(file),
        "verdicts": [
            {"check": verdict.check, "status": verdict.status} | ({} if verdict.gpu is None else {"gpu": verdict.gpu})
            for verdict in measured.verdicts
        ],
        "bad": [verdict.as_dict() for verdict in measured.verdicts if verdict.bad],
        "suites": {name: suite.status for name, suite in measured.suites.items()},
        "numbers": numbers,
    }


def _number(metric: Metric) -> Interval:
    return {"median": _short(metric.median), "low": _short(metric.low), "high": _short(metric.high)}


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
