"""Sample sensors while a workload runs, and summarise the samples. Here are the CPU's sensors; GPUs: hardware.py.

A field for which a device has no sensor is absent.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from vault_cube.bench.fields import Phases, Reading, Sensor, Sensors, Summed
from vault_cube.bench.judge.interval import variation

SUMMED: tuple[Literal[Sensor, "memory_used_mib"], ...] = (
    "utilisation", "memory_used_mib", "power_w", "temperature_c", "clock_mhz",
)  # fmt: skip

SETTLE_S = 1.0
"""Seconds to skip at the start of a phase: NVML's utilisation is an average over up to one second (nvml.h,
nvmlUtilization_t), so the first second still contains the time before."""


class Processor:
    """The sensors of a machine without a GPU."""

    def __init__(self) -> None:
        self._before = self._times()
        self._throttled = self._throttle_count()

    def read(self) -> Reading:
        """Return one reading of the CPU; its utilisation is the mean since the previous reading."""
        now, before = self._times(), self._before
        self._before = now
        busy, total = now[0] - before[0], now[1] - before[1]
        reading: Sensors = {}
        if total > 0:
            reading["utilisation"] = busy / total
        temperatures = [value / 1000 for value in _numbers("/sys/class/hwmon", "*/temp*_input")]
        temperatures += [value / 1000 for value in _numbers("/sys/class/thermal", "thermal_zone*/temp")]
        if temperatures:
            reading["temperature_c"] = max(temperatures)
        clocks = [value / 1000 for value in _numbers("/sys/devices/system/cpu", "cpu*/cpufreq/scaling_cur_freq")]
        if clocks:
            reading["clock_mhz"] = statistics.fmean(clocks)
        throttled = self._throttle_count()
        # virtual machines have no such counter: leave the field out, because an empty list would claim no throttling
        if throttled is not None:
            reading["throttle"] = ["cpu_thermal"] if throttled > (self._throttled or 0) else []
        self._throttled = throttled
        return {"cpu": reading}

    def close(self) -> None:
        """Do nothing; the CPU's sensors hold no resources."""

    @staticmethod
    def _times() -> tuple[int, int]:
        words = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        # idle and iowait do not count as busy, nor does time stolen by other guests of a hypervisor
        idle, stolen = words[3] + words[4], words[7]
        return sum(words) - idle - stolen, sum(words)

    @staticmethod
    def _throttle_count() -> int | None:
        counts = _numbers("/sys/devices/system/cpu", "cpu*/thermal_throttle/core_throttle_count")
        return int(sum(counts)) if counts else None


def _numbers(folder: str, pattern: str) -> list[float]:
    values = []
    for file in Path(folder).glob(pattern):
        try:
            values.append(float(file.read_text()))
        except (OSError, ValueError):
            continue
    return values


LOST_S = 2.0
"""A problem in all readings for so long means that a GPU is lost. A shorter one is a failure of the driver for a
moment, which does not void a measurement."""


class Sampler:
    """Reads the sensors in a thread, and records the workload's phase with each reading.

    A context manager, entered once per round of the workload.
    """

    def __init__(self, read: Callable[[], Reading], every_s: float) -> None:
        self._read, self._every = read, every_s
        self._stop = threading.Event()
        self._phase, self._since = "", time.monotonic()
        self._readings: list[tuple[str, float, Reading]] = []
        self._problem: tuple[float, str] | None = None
        """Since when all readings have had a problem, monotonic, and the last one."""

    @property
    def lost(self) -> str | None:
        """The problem of the last readings; None if there was none, or only for a moment."""
        problem = self._problem
        return problem[1] if problem and time.monotonic() - problem[0] >= LOST_S else None

    def phase(self, name: str) -> None:
        """Record that a phase of the workload begins; an empty name ends the phase."""
        self._phase, self._since = name, time.monotonic()

    def __enter__(self) -> Sampler:
        self._problem = None
        self.phase("")
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            phase, since = self._phase, time.monotonic() - self._since
            try:
                reading = self._read()
            except Exception as err:
                reading = {"sensors": {"problem": f"{type(err).__name__}: {err}"[:200]}}
            self.add(phase, since, reading)

    def add(self, phase: str, since: float, reading: Reading) -> None:
        """Add a reading. since: seconds since the phase began."""
        problem = next((fields["problem"] for fields in reading.values() if fields.get("problem")), None)
        first = self._problem[0] if self._problem else time.monotonic()
        self._problem = (first, problem) if problem else None
        self._readings.append((phase, since, reading))

    def summary(self) -> Phases:
        """Return the statistics of the readings by phase and device. Unread fields are absent.

        The first second of a phase does not count; a shorter phase has no utilisation.
        """
        phases = sorted({name for name, _, _ in self._readings if name})
        return {phase: summary for phase in phases if (summary := self._of(phase))}

    def _of(self, phase: str) -> dict[str, Summed]:
        readings = [(since, reading) for name, since, reading in self._readings if name == phase]
        chosen = [reading for since, reading in readings if since >= SETTLE_S] or [
            {device: {**fields, "utilisation": None} for device, fields in reading.items()} for _, reading in readings
        ]
        devices = sorted({device for reading in chosen for device in reading if device != "sensors"})
        return {device: _summed([reading[device] for reading in chosen if device in reading]) for device in devices}


def _summed(readings: list[Sensors]) -> Summed:
    summed: Summed = {"readings": len(readings)}
    for field in SUMMED:
        values = [value for reading in readings if (value := reading.get(field)) is not None]
        if values:
            summed[field] = {
                "mean": statistics.fmean(values),
                "least": min(values),
                "most": max(values),
                "variation": variation(values),
            }
    throttle = [reading["throttle"] for reading in readings if "throttle" in reading]
    if throttle:
        reasons = sorted({reason for present in throttle for reason in present})
        summed["throttle"] = {
            reason: sum(reason in present for present in throttle) / len(throttle) for reason in reasons
        }
    return summed
