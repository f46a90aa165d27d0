"""The verdict on a burn-in's samples: share of time per throttle reason, clocks, XIDs, ECC errors, wrong values."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from vault_cube.settings.benchmark import Stress

HOUR_S = 3600.0
POINTS = 600
"""Most points of a curve in the verdict. A day gives one point per 144 s, enough for the width of a plot."""

IGNORED = ("gpu_idle",)
"""Throttle reasons that mean idle, not slowed down (nvml.h, nvmlClocksEventReasonGpuIdle)."""


class _Device:
    """The samples of one device, accumulated."""

    def __init__(self) -> None:
        self.samples = 0
        self.throttle_samples = 0
        """Number of samples with the field `throttle`; a device without that sensor has none."""
        self.throttled: Counter[str] = Counter()
        self.values: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.xids: list[dict[str, Any]] | None = None
        self.ecc: list[int] = []

    def add(self, at: float, fields: dict[str, Any]) -> None:
        self.samples += 1
        self.throttle_samples += "throttle" in fields
        self.throttled.update(reason for reason in fields.get("throttle", []) if reason not in IGNORED)
        for name in ("temperature_c", "power_w", "clock_mhz", "utilisation"):
            if fields.get(name) is not None:
                self.values[name].append((at, float(fields[name])))
        if "xids" in fields:
            self.xids = (self.xids or []) + [{"at": at, "xid": xid} for xid in fields["xids"]]
        if fields.get("ecc_uncorrected") is not None:
            self.ecc.append(int(fields["ecc_uncorrected"]))


def judge(samples: Iterable[dict[str, Any]], asked_s: float, why: str | None, rule: Stress) -> dict[str, Any]:
    """Judge the samples of a burn-in.

    samples: in the order in which they were taken. asked_s: requested duration, seconds. why: the reason for an early
    end, or None. rule: the pillar's thresholds.

    Returns `said` (pass, fail or fault), `problems` (one line each), `burnt_s`, `whole` (the requested duration was
    reached), and `devices` and `work` by device.
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
    if not any(done["products"] for done in work.values()):
        faults.append("no matrix product was computed: the devices cannot be judged")
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
    verdict = "fault" if faults else "fail" if problems else "pass"
    return {
        "said": verdict,
        "problems": faults + problems,
        "burnt_s": round(burnt, 1),
        "whole": burnt >= asked_s,
        "devices": described,
        "work": dict(work),
    }


def _describe(device: _Device) -> dict[str, Any]:
    described: dict[str, Any] = {"samples": device.samples}
    if device.throttle_samples:
        described["throttle_share"] = {
            reason: count / device.throttle_samples for reason, count in sorted(device.throttled.items())
        }
    for name, series in device.values.items():
        described[name] = _curve(series, min if name == "clock_mhz" else max)
    clocks = device.values.get("clock_mhz")
    if clocks:
        first = [value for at, value in clocks if at <= HOUR_S]
        later = [value for at, value in clocks if at > HOUR_S]
        described["clock_first_hour_mhz"] = statistics.median(first) if first else None
        # leave the share out after a burn-in of one hour or less, because there is no later clock
        if first and later:
            described["clock_later_share"] = statistics.median(later) / statistics.median(first)
    if device.xids is not None:
        described["xids"] = device.xids
    if device.ecc:
        described["ecc_uncorrected"] = device.ecc[-1] - device.ecc[0]
    return described


def _problems(name: str, device: _Device, described: dict[str, Any], rule: Stress) -> list[str]:
    lines = []
    for reason, share in described.get("throttle_share", {}).items():
        allowed = rule.throttle_share.get(reason, 0.0)
        if share > allowed:
            lines.append(f"{name}: throttled by {reason} for {share:.1%} of the time; at most {allowed:.1%} is allowed")
    share = described.get("clock_later_share")
    if share is not None and share < 1 - rule.clock_drop:
        lines.append(f"{name}: median clock after the first hour is {share:.1%} of the first hour's")
    if device.xids:
        lines.append(f"{name}: XID {', '.join(sorted({str(event['xid']) for event in device.xids}))}")
    if described.get("ecc_uncorrected"):
        lines.append(f"{name}: {described['ecc_uncorrected']} uncorrected ECC errors")
    return lines


def _curve(series: list[tuple[float, float]], worst: Callable[[Iterable[float]], float]) -> dict[str, Any]:
    """Return the least, median and greatest value of a series, and its curve of at most 600 points.

    series: pairs of seconds and value. worst: reduces the values that share one point of the curve, `max` for a
    temperature, `min` for a clock, so that a short peak or dip stays visible.
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
