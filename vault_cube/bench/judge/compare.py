"""Comparison of two results: which metrics changed by more than noise."""

from __future__ import annotations

from typing import Any

from vault_cube.bench.fields import Change, Compared
from vault_cube.bench.judge.interval import permutation_p
from vault_cube.bench.judge.result import Metric, Result
from vault_cube.settings.benchmark import Comparison


def compare(a: Result, b: Result, rule: Comparison) -> Compared:
    """Compare two results.

    a, b: the earlier and the later result. rule: thresholds for p and for the relative change.

    Returns `differs` (differences in machine, software and workload), `changes` by metric, and `missing` (metrics that
    cannot be compared). A change has both medians, their ratio, whether a's interval contains b's median (`covered`),
    p of a permutation test over the raw samples, and `means`: `faster`, `slower` or `noise`.
    The test covers the noise within the two runs, not the noise between days: repeat both runs before you conclude
    anything.
    """
    changes: dict[str, Change] = {}
    missing: list[str] = []
    differs = _differs(a, b)
    ours, theirs = _metrics(a), _metrics(b)
    for name in sorted(ours | theirs):
        if name not in ours or name not in theirs:
            missing.append(f"{name}: only in {(a if name in ours else b).name}")
        elif any(line.startswith(f"{name.partition(':')[0]}: workload") for line in differs):
            missing.append(f"{name}: not comparable: the workloads differ")
        else:
            changes[name] = _change(ours[name], theirs[name], rule)
    return {"a": a.name, "b": b.name, "differs": differs, "changes": changes, "missing": missing}


def _change(a: Metric, b: Metric, rule: Comparison) -> Change:
    ratio = b.median / a.median
    p = permutation_p(a.samples, b.samples)
    real = p <= rule.p and abs(ratio - 1) >= rule.least
    up = "faster" if a.better == "higher" else "slower"
    down = "slower" if a.better == "higher" else "faster"
    return {
        "unit": a.unit,
        "a": a.median,
        "b": b.median,
        "ratio": ratio,
        "covered": a.low is not None and a.high is not None and a.low <= b.median <= a.high,
        "p": p,
        "means": (up if ratio > 1 else down) if real else "noise",
    }


def _metrics(result: Result) -> dict[str, Metric]:
    metrics = {f"{name}: {metric.label}": metric for name, suite in result.suites.items() for metric in suite.metrics}
    return metrics | {f"derived: {metric.label}": metric for metric in result.derived}


def _differs(a: Result, b: Result) -> list[str]:
    lines = []
    for key in ("accelerator", "simulated", "processor", "cores", "kernel", "system", "driver", "image"):
        old, new = getattr(a.machine, key), getattr(b.machine, key)
        if old != new:
            lines.append(f"machine: {key}: {old} -> {new}")
    cards = [[gpu.get("name") for gpu in result.machine.gpus] for result in (a, b)]
    if cards[0] != cards[1]:
        lines.append(f"machine: gpus: {cards[0]} -> {cards[1]}")
    if a.quick != b.quick:
        lines.append(f"effort: {'quick' if a.quick else 'full'} -> {'quick' if b.quick else 'full'}")
    for name in sorted(set(a.suites) & set(b.suites)):
        left, right = a.suites[name], b.suites[name]
        lines += [
            f"{name}: version of {key}: {left.versions.get(key)} -> {right.versions.get(key)}"
            for key in sorted(set(left.versions) | set(right.versions))
            if left.versions.get(key) != right.versions.get(key)
        ]
        if left.status == right.status == "measured" and _fixed(left.workload) != _fixed(right.workload):
            lines.append(f"{name}: workload differs")
    return lines


MEASURED = ("steps", "repeats", "shapes", "bench_serve")
"""Parts of a workload's description that calibration or a measurement gave; they differ between equal runs."""


def _fixed(workload: Any) -> Any:
    """Return a workload without the parts that differ between runs of the same workload."""
    if isinstance(workload, dict):
        return {key: _fixed(value) for key, value in workload.items() if key not in MEASURED}
    return workload
