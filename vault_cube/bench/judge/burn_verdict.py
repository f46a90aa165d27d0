"""The verdict on a burn's samples: throttling by cause and share, clocks, XIDs, ECC, wrong results, curves."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from vault_cube.settings.benchmark import Stress

HOUR_S = 3600.0
POINTS = 600
"""Points of a curve kept in the verdict: one for 144 s of a day, more than a plot's pixels need."""

IGNORED = ("gpu_idle",)
"""Throttle reasons that mean no work, not less speed (nvml.h, nvmlClocksEventReasonGpuIdle)."""


class _Device:
    """What is gathered of one device."""

    def __init__(self) -> None:
        self.samples = 0
        self.told = 0
        """samples that say whether it was throttled"""
        self.throttled: Counter[str] = Counter()
        self.values: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.xids: list[dict[str, Any]] | None = None
        self.ecc: list[int] = []

    def add(self, at: float, fields: dict[str, Any]) -> None:
        self.samples += 1
        self.told += "throttle" in fields
        self.throttled.update(reason for reason in fields.get("throttle", []) if reason not in IGNORED)
        for name in ("temperature_c", "power_w", "clock_mhz", "utilisation"):
            if fields.get(name) is not None:
                self.values[name].append((at, float(fields[name])))
        if "xids" in fields:
            self.xids = (self.xids or []) + [{"at": at, "xid": xid} for xid in fields["xids"]]
        if fields.get("ecc_uncorrected") is not None:
            self.ecc.append(int(fields["ecc_uncorrected"]))


def judge(samples: Iterable[dict[str, Any]], asked_s: float, why: str | None, rule: Stress) -> dict[str, Any]:
    """Returns `said` (pass, fail or fault), `problems` (a line each), `burnt_s`, `devices`, `work`.

    why: what ended the burn before its time, or None.
    """
    devices: dict[str, _Device] = defaultdict(_Device)
    work: dict[str, dict[str, float]] = defaultdict(lambda: {"products": 0, "wrong": 0})
    rates: dict[str, list[tuple[float, float]]] = defaultdict(list)
    first_wrong: dict[str, float] = {}
    burnt = 0.0
    for sample in samples:
        at = burnt = float(sample["at"])
        for name, fields in sample["devices"].items():
            devices[name].add(at, fields)
        for name, done in sample["work"].items():
            work[name]["products"] += done["products"]
            work[name]["wrong"] += done["wrong"]
            if "tflops" in done:
                rates[name].append((at, done["tflops"]))
            if done["wrong"]:
                first_wrong.setdefault(name, at)
    faults = [why] if why else []
    if not any(one["products"] for one in work.values()):
        faults.append("nothing was computed: there is no verdict on the devices")
    problems = []
    for name, done in work.items():
        if done["wrong"]:
            problems.append(
                f"{name}: {done['wrong']:.0f} wrong values in {done['products']:.0f} products, the first after "
                f"{first_wrong[name]:.0f} s"
            )
    described = {}
    for name, device in devices.items():
        described[name] = _describe(device)
        problems += _problems(name, device, described[name], rule)
    for name, curve in rates.items():
        described.setdefault(name, {"samples": 0})["tflops"] = _curve(curve, min)
    said = "fault" if faults else "fail" if problems else "pass"
    return {
        "said": said,
        "problems": faults + problems,
        "burnt_s": round(burnt, 1),
        "whole": burnt >= asked_s,
        "devices": described,
        "work": dict(work),
    }


def _describe(device: _Device) -> dict[str, Any]:
    found: dict[str, Any] = {"samples": device.samples}
    if device.told:
        found["throttle_share"] = {reason: count / device.told for reason, count in sorted(device.throttled.items())}
    for name, series in device.values.items():
        found[name] = _curve(series, min if name == "clock_mhz" else max)
    clocks = device.values.get("clock_mhz")
    if clocks:
        first = [value for at, value in clocks if at <= HOUR_S]
        later = [value for at, value in clocks if at > HOUR_S]
        found["clock_first_hour_mhz"] = statistics.median(first) if first else None
        # a burn of an hour or less has no later: absent, not equal
        if first and later:
            found["clock_later_share"] = statistics.median(later) / statistics.median(first)
    if device.xids is not None:
        found["xids"] = device.xids
    if device.ecc:
        found["ecc_uncorrected"] = device.ecc[-1] - device.ecc[0]
    return found


def _problems(name: str, device: _Device, found: dict[str, Any], rule: Stress) -> list[str]:
    lines = []
    for reason, share in found.get("throttle_share", {}).items():
        allowed = rule.throttle_share.get(reason, 0.0)
        if share > allowed:
            lines.append(f"{name}: throttled by {reason} for {share:.1%} of the time, {allowed:.1%} is allowed")
    share = found.get("clock_later_share")
    if share is not None and share < 1 - rule.clock_drop:
        lines.append(f"{name}: after the first hour the median clock is {share:.1%} of that hour's")
    if device.xids:
        lines.append(f"{name}: XID {', '.join(sorted({str(one['xid']) for one in device.xids}))}")
    if found.get("ecc_uncorrected"):
        lines.append(f"{name}: {found['ecc_uncorrected']} uncorrected ECC errors")
    return lines


def _curve(series: list[tuple[float, float]], worst: Callable[[Iterable[float]], float]) -> dict[str, Any]:
    """Least, median, most, and a curve of at most 600 points.

    worst: a point is the worst of its stretch, the most of a temperature, the least of a clock, so that none is lost.
    """
    values = [value for _, value in series]
    width = -(-len(series) // POINTS)
    parts = [series[n : n + width] for n in range(0, len(series), width)]
    return {
        "least": min(values),
        "median": statistics.median(values),
        "most": max(values),
        "curve": [[part[0][0], worst(value for _, value in part)] for part in parts],
    }
