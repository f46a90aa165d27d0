"""What changed between two results, and whether it is more than noise."""

from __future__ import annotations

from typing import Any

from vault_cube.bench.judge.interval import permutation_p
from vault_cube.bench.judge.result import Metric, Result
from vault_cube.settings.benchmark import Comparison


def compare(a: Result, b: Result, rule: Comparison) -> dict[str, Any]:
    """Returns `differs` (what was not the same besides the numbers), `changes` by metric, and `missing`.

    A change: medians, ratio, whether a's interval holds b's median, p of a permutation test over the raw samples, and
    what it means: `faster`, `slower` or `noise`.
    The test knows the noise within the two runs, not that between days: repeat a run before a conclusion is drawn
    from one.
    """
    changes: dict[str, Any] = {}
    missing: list[str] = []
    differs = _differs(a, b)
    ours, theirs = _metrics(a), _metrics(b)
    for name in sorted(ours | theirs):
        if name not in ours or name not in theirs:
            missing.append(f"{name}: only in {(a if name in ours else b).name}")
        elif any(line.startswith(f"{name.split('.')[0]}: workload") for line in differs):
            missing.append(f"{name}: not comparable, the workloads differ")
        else:
            changes[name] = _change(ours[name], theirs[name], rule)
    return {"a": a.name, "b": b.name, "differs": differs, "changes": changes, "missing": missing}


def _change(a: Metric, b: Metric, rule: Comparison) -> dict[str, Any]:
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


def _metrics(one: Result) -> dict[str, Metric]:
    found = {f"{suite}.{name}": metric for suite, part in one.suites.items() for name, metric in part.metrics.items()}
    found.update({f"derived.{name}": metric for name, metric in one.derived.items() if metric})
    return found


def _differs(a: Result, b: Result) -> list[str]:
    lines = []
    for key in ("accelerator", "simulated", "processor", "cores", "kernel", "system", "driver", "image"):
        old, new = getattr(a.machine, key), getattr(b.machine, key)
        if old != new:
            lines.append(f"machine: {key}: {old} -> {new}")
    cards = [[gpu.get("name") for gpu in one.machine.gpus] for one in (a, b)]
    if cards[0] != cards[1]:
        lines.append(f"machine: gpus: {cards[0]} -> {cards[1]}")
    if a.quick != b.quick:
        lines.append(f"effort: {'quick' if a.quick else 'full'} -> {'quick' if b.quick else 'full'}")
    for name in sorted(set(a.suites) & set(b.suites)):
        one, two = a.suites[name], b.suites[name]
        lines += [
            f"{name}: version of {key}: {one.versions.get(key)} -> {two.versions.get(key)}"
            for key in sorted(set(one.versions) | set(two.versions))
            if one.versions.get(key) != two.versions.get(key)
        ]
        if one.status == two.status == "measured" and _fixed(one.workload) != _fixed(two.workload):
            lines.append(f"{name}: workload differs")
    return lines


def _fixed(workload: Any) -> Any:
    """A workload without what the calibration chose: how often it ran does not change what ran."""
    if isinstance(workload, dict):
        return {key: _fixed(value) for key, value in workload.items() if key not in ("steps", "repeats")}
    return workload
