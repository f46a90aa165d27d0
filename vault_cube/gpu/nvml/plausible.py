"""Impossible values that NVML is known to return.

Every answer of a GPU passes `checked` (`Device.ask`), so that no display, metric or check has to test for such values.
An impossible value is dropped: its field is then absent, and `implausible` names the function and the value.

Known cases: utilisation of 4294967295 % (github.com/NVIDIA/DCGM/issues/199, NVIDIA/dcgm-exporter/issues/418), all ones
for "not available" (nvml.h, NVML_VALUE_NOT_AVAILABLE), links of width 0, sensors at 0 °C. The limits below are no
health thresholds; they are far beyond the capabilities of hardware.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

ALL_ONES = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
CELSIUS = range(1, 151)
LARGEST_MEMORY = 1 << 44
"""16 TiB, in bytes."""
LONGEST_NS = 10 * 366 * 86400 * 10**9
"""Ten years, in ns."""
WIDTHS = (1, 2, 4, 8, 12, 16, 32)
HIGHEST_PID = 1 << 22
"""PID_MAX_LIMIT of Linux."""
MOST_POWER_MW = 10_000_000
POWER_FACTOR = 3
"""Highest plausible ratio of power draw to the card's highest power limit; real peaks stay below 2."""
MOST_REASONS = 12
"""Highest plausible number of active throttle reasons; nvml.h defines 11."""
ADDRESS = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
"""A PCI address as NVML and sysfs write it."""


def _within(least: float, most: float) -> Callable[..., bool]:
    return lambda value, *_: least <= value <= most


def _clock(mhz: int, kind: int) -> bool:
    return 0 <= mhz <= (50_000 if kind == 2 else 10_000)


def _memory(value: Any, *_: Any) -> bool:
    total, used = (value.total, value.used) if hasattr(value, "total") else (value.bar1Total, value.bar1Used)
    return bool(0 < total <= LARGEST_MEMORY and used <= total)


def _switches(value: Any, *_: Any) -> bool:
    return all(state in (0, 1) for state in value)


def _rows(value: Any, *_: Any) -> bool:
    corrected, uncorrected, pending, failed = value
    return max(corrected, uncorrected) < 1 << 20 and pending in (0, 1) and failed in (0, 1)


_COUNTER = _within(0, ALL_ONES[0] - 1)
_LIMIT = _within(1000, MOST_POWER_MW)
_PERCENT = _within(0, 100)
_SPEED = _within(0, 250)  # nvml.h: a fan's speed "may exceed 100% in certain cases"
_TEMPERATURE = _within(CELSIUS.start, CELSIUS.stop - 1)

RULES: dict[str, Callable[..., bool]] = {
    "nvmlDeviceGetTemperature": _TEMPERATURE,
    "nvmlDeviceGetTemperatureV": _TEMPERATURE,
    "nvmlDeviceGetTemperatureThreshold": _TEMPERATURE,
    "nvmlDeviceGetMarginTemperature": _within(-150, 150),
    "nvmlDeviceGetPowerUsage": _within(1, MOST_POWER_MW),
    "nvmlDeviceGetEnforcedPowerLimit": _LIMIT,
    "nvmlDeviceGetPowerManagementLimit": _LIMIT,
    "nvmlDeviceGetPowerManagementDefaultLimit": _LIMIT,
    "nvmlDeviceGetPowerManagementLimitConstraints": lambda value: 0 <= value[0] <= value[1] <= MOST_POWER_MW,
    "nvmlDeviceGetClockInfo": _clock,
    "nvmlDeviceGetMaxClockInfo": _clock,
    "nvmlDeviceGetApplicationsClock": _clock,
    "nvmlDeviceGetDefaultApplicationsClock": _clock,
    "nvmlDeviceGetGpcClkVfOffset": _within(-10_000, 10_000),
    "nvmlDeviceGetMemClkVfOffset": _within(-10_000, 10_000),
    "nvmlDeviceGetFanSpeed": _SPEED,
    "nvmlDeviceGetFanSpeed_v2": _SPEED,
    "nvmlDeviceGetNumFans": _within(0, 32),
    "nvmlDeviceGetPerformanceState": _within(0, 15),  # nvml.h: NVML_PSTATE_UNKNOWN is 32
    "nvmlDeviceGetEncoderUtilization": lambda value: 0 <= value[0] <= 100,
    "nvmlDeviceGetDecoderUtilization": lambda value: 0 <= value[0] <= 100,
    "nvmlDeviceGetCurrPcieLinkGeneration": _within(1, 8),
    "nvmlDeviceGetMaxPcieLinkGeneration": _within(1, 8),
    "nvmlDeviceGetGpuMaxPcieLinkGeneration": _within(1, 8),
    "nvmlDeviceGetCurrPcieLinkWidth": lambda value: value in WIDTHS,
    "nvmlDeviceGetMaxPcieLinkWidth": lambda value: value in WIDTHS,
    "nvmlDeviceGetPcieReplayCounter": _within(0, (1 << 31) - 1),
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetBAR1MemoryInfo": _memory,
    "nvmlDeviceGetTotalEccErrors": _COUNTER,
    "nvmlDeviceGetNvLinkErrorCounter": _COUNTER,
    "nvmlDeviceGetNvLinkState": _within(0, 1),
    "nvmlDeviceGetEccMode": _switches,
    "nvmlDeviceGetMigMode": _switches,
    "nvmlDeviceGetRemappedRows": _rows,
    "nvmlDeviceGetViolationStatus": lambda value, *_: value.violationTime <= LONGEST_NS,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda mask: mask.bit_count() <= MOST_REASONS,
    "nvmlDeviceGetCurrentClocksThrottleReasons": lambda mask: mask.bit_count() <= MOST_REASONS,
    "nvmlDeviceGetCudaComputeCapability": lambda value: 1 <= value[0] <= 99 and value[1] <= 99,
    "nvmlDeviceGetNumGpuCores": _within(1, 1 << 20),
    "nvmlDeviceGetMemoryBusWidth": _within(1, 1 << 16),
    "nvmlDeviceGetMinorNumber": _within(0, 1 << 16),
    "nvmlDeviceGetNumaNodeId": _within(0, 1 << 12),
}
"""Function → test of its answer, which is called with the answer and the arguments after the handle."""

FIELDS: dict[int, Callable[..., bool]] = {
    82: _TEMPERATURE,  # memory temperature
    193: _within(-150, 150), 194: _within(-150, 150), 195: _within(-150, 150), 196: _within(-150, 150),
    230: _within(0, 31),  # recovery action
    **dict.fromkeys((74, 75, 76, 77, 78, 79, 269, 270, 271), _within(0, LONGEST_NS)),
}  # fmt: skip
"""The same for NVML's numbered fields (nvml.h, NVML_FI_DEV_…)."""


def checked(function: str, args: tuple[Any, ...], value: Any) -> Any:
    """Return an answer of NVML without its impossible parts; None if nothing is left.

    args: the arguments after the device's handle. Texts lose their control characters, utilisation and
    processes their impossible members.
    """
    if isinstance(value, str):
        return printable(value) or None
    if function == "nvmlDeviceGetUtilizationRates":
        rates = {name: getattr(value, name) for name in ("gpu", "memory")}
        good = {name: rate if _PERCENT(rate) else None for name, rate in rates.items()}
        return None if set(good.values()) == {None} else SimpleNamespace(**good)
    if function.endswith("RunningProcesses"):
        return [_process(entry) for entry in value if 0 < entry.pid <= HIGHEST_PID]
    if function == "nvmlDeviceGetPciInfo":
        return value if ADDRESS.fullmatch(_text(value.busId)) else None
    rule = RULES.get(function)
    if rule is not None:
        return value if rule(value, *args) else None
    return None if isinstance(value, int) and value in ALL_ONES else value


def field(number: int, value: float | None) -> float | None:
    """Return the value of a numbered field; None if it is impossible."""
    if value is None or value in ALL_ONES:
        return None
    rule = FIELDS.get(number)
    return value if rule is None or rule(value) else None


def printable(text: str) -> str:
    """Return a text as one line, with question marks instead of control characters and invalid bytes."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()


def shown(value: Any) -> str:
    """Describe a dropped answer briefly."""
    if hasattr(value, "gpu") and hasattr(value, "memory"):
        return f"{value.gpu} %, {value.memory} %"
    for name in ("busId", "violationTime", "total", "bar1Total"):
        if hasattr(value, name):
            return printable(_text(getattr(value, name)))[:80]
    return printable(str(value))[:80]


def _process(entry: Any) -> Any:
    held = entry.usedGpuMemory
    return SimpleNamespace(pid=entry.pid, usedGpuMemory=None if held is None or held > LARGEST_MEMORY else held)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
