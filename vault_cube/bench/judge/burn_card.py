"""The samples of one device of a burn-in, accumulated by hour."""

from __future__ import annotations

import statistics
from array import array
from collections import Counter
from collections.abc import Callable, Iterable

from vault_cube.bench.fields import BurntDevice, Curve, Described, ErrorCounter, Sensor, Sensors, TimedXid, Work
from vault_cube.gpu.read.xid import meaning

HOUR_S = 3600.0
POINTS = 600
"""Most points of a curve in the verdict. A day gives one point per 144 s, enough for the width of a plot."""
LEAST_SAMPLES = 30
"""A burn-in ends in the middle of an hour; a few samples show a hiccup, and not an hour."""
SENSORS: tuple[Sensor, ...] = ("temperature_c", "power_w", "clock_mhz", "utilisation")
COUNTERS: tuple[ErrorCounter, ...] = ("ecc_uncorrected", "pcie_replays", "pcie_corrected")
"""Counters of the driver and of the kernel; both begin at 0 when they are loaded."""
IGNORED = ("gpu_idle",)
"""Throttle reasons that mean idle, not slowed down (nvml.h, nvmlClocksEventReasonGpuIdle)."""

SERIOUS = ("program", "warning", "fault")
"""Weights of the XIDs that count against a burn-in: nothing but our own program runs."""


class Series:
    """Values over time."""

    def __init__(self) -> None:
        self.times, self.values = array("d"), array("d")

    def add(self, at: float, value: float) -> None:
        """Add a value. at: seconds since the start."""
        self.times.append(at)
        self.values.append(value)

    def described(self, worst: Callable[[Iterable[float]], float]) -> Described:
        """Return the least, median and greatest value, and a curve of at most 600 points.

        worst: reduces the values that share one point of the curve, `max` for a temperature, `min` for a clock, so
        that a short peak or dip stays visible.
        """
        width = -(-len(self.values) // POINTS)
        starts = range(0, len(self.values), width)
        return {
            "least": min(self.values),
            "median": statistics.median(self.values),
            "most": max(self.values),
            "curve": [[self.times[start], worst(self.values[start : start + width])] for start in starts],
        }


class Grown:
    """The increase of a counter that a reboot or a reload of the driver sets back to 0."""

    def __init__(self) -> None:
        self.increase = 0
        self._last: int | None = None
        self._boot = 0

    def add(self, value: int, boot: int) -> int:
        """Add a reading; return the increase since the one before. boot: number of the boot, from 1."""
        if self._last is None:
            grown = 0
        elif boot != self._boot or value < self._last:
            grown = value
        else:
            grown = value - self._last
        self._last, self._boot = value, boot
        self.increase += grown
        return grown


class Hour:
    """One hour of a device."""

    def __init__(self) -> None:
        self.products = self.wrong = self.samples = self.unread = 0
        self.values = {name: array("d") for name in (*SENSORS, "tflops")}
        self.grown: Counter[str] = Counter()
        self.xids: list[int] = []

    def median(self, name: str) -> float | None:
        """Return the median of a sensor or of the speed; None without values."""
        return statistics.median(self.values[name]) if self.values[name] else None


class Device:
    """All samples of one device."""

    def __init__(self) -> None:
        self.samples = 0
        self.throttle_samples = 0
        """Number of samples with the field `throttle`; a device without that sensor has none."""
        self.throttled: Counter[str] = Counter()
        self.series: dict[Curve, Series] = {}
        self.hours: dict[int, Hour] = {}
        self.xids: list[TimedXid] | None = None
        self.counters: dict[ErrorCounter, Grown] = {}
        self.products = self.wrong = self.unread = 0
        self.first_wrong: float | None = None

    def full_hours(self) -> dict[int, Hour]:
        """Return the hours that can be judged: the first, and later ones with at least half a minute of samples."""
        return {number: hour for number, hour in self.hours.items() if number == 1 or hour.samples >= LEAST_SAMPLES}

    def hour(self, at: float) -> Hour:
        """Return the hour of a time, in seconds since the start; the first hour is 1."""
        return self.hours.setdefault(int(at // HOUR_S) + 1, Hour())

    def read(self, at: float, fields: Sensors, boot: int) -> None:
        """Add one reading of the sensors."""
        hour = self.hour(at)
        for xid in fields.get("xids", []):
            self.xids = [*(self.xids or []), {"at": at, "xid": xid}]
            hour.xids.append(xid)
        if fields.get("log"):  # of the kernel's log, between two runs
            return
        if "xids" in fields and self.xids is None:
            self.xids = []
        self.samples += 1
        hour.samples += 1
        if "temperature_c" not in fields:
            self.unread += 1
            hour.unread += 1
        self.throttle_samples += "throttle" in fields
        self.throttled.update(reason for reason in fields.get("throttle", []) if reason not in IGNORED)
        for name in SENSORS:
            if (value := fields.get(name)) is not None:
                self._value(name, at, float(value), hour)
        for counter in COUNTERS:
            if (count := fields.get(counter)) is not None:
                hour.grown[counter] += self.counters.setdefault(counter, Grown()).add(int(count), boot)

    def work(self, at: float, done: Work) -> None:
        """Add what was computed since the sample before."""
        hour = self.hour(at)
        for part in (self, hour):
            part.products += int(done["products"])
            part.wrong += int(done["wrong"])
        if done["wrong"] and self.first_wrong is None:
            self.first_wrong = at
        if "tflops" in done:
            self._value("tflops", at, done["tflops"], hour)

    def _value(self, name: Curve, at: float, value: float, hour: Hour) -> None:
        self.series.setdefault(name, Series()).add(at, value)
        hour.values[name].append(value)

    def later_share(self) -> float | None:
        """Return the median clock after the first hour, relative to that of the first hour; None without either."""
        first = self.hours[1].values["clock_mhz"] if 1 in self.hours else array("d")
        later = [value for number, hour in self.hours.items() if number > 1 for value in hour.values["clock_mhz"]]
        return statistics.median(later) / statistics.median(first) if first and later else None

    def serious_xids(self) -> list[int]:
        """Return the XIDs that mean more than a note of the driver, each code once."""
        return sorted({event["xid"] for event in self.xids or [] if meaning(event["xid"]).weight in SERIOUS})

    def described(self) -> BurntDevice:
        """Return the device's part of the verdict, without its hours."""
        described: BurntDevice = {"samples": self.samples, "unread": self.unread}
        if self.throttle_samples:
            described["throttle_share"] = {
                reason: count / self.throttle_samples for reason, count in sorted(self.throttled.items())
            }
        for name, series in self.series.items():
            described[name] = series.described(min if name in ("clock_mhz", "tflops") else max)
        # leave the share out after a burn-in of one hour or less, because there is no later clock
        if (share := self.later_share()) is not None:
            described["clock_later_share"] = share
        if self.xids is not None:
            described["xids"] = self.xids
        for counter, grown in self.counters.items():
            described[counter] = grown.increase
        return described
