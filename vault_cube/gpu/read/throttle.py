"""Reasons why a GPU lowers its clocks: bits of a mask, of which several can be set.

Source: nvml.h, nvmlClocksEventReasons (docs.nvidia.com/deploy/nvml-api, "nvmlClocksEventReasons"); with the
names of nvidia-smi. Weights: `idle` and `chosen` are no throttling; `power` is the power cap; `heat` is the driver's
reaction to heat; `fault` is the hardware's protection against heat or an insufficient power supply.
"""

from __future__ import annotations

from collections.abc import Sequence

REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
WEIGHT = {
    "gpu_idle": "idle",
    "applications_clocks_setting": "chosen",
    "sw_power_cap": "power",
    "hw_slowdown": "fault",
    "sync_boost": "chosen",
    "sw_thermal_slowdown": "heat",
    "hw_thermal_slowdown": "fault",
    "hw_power_brake_slowdown": "fault",
    "display_clock_setting": "chosen",
    "board_limit": "power",
    "reliability": "power",
}
TODO = {
    "hw_slowdown": "check heat and power: airflow, dust, the card's power connector, the power supply",
    "hw_thermal_slowdown": "improve cooling: airflow, dust, room temperature; gpu.stress shows when it starts",
    "sw_thermal_slowdown": "improve cooling: airflow, dust, room temperature; gpu.stress shows when it starts",
    "hw_power_brake_slowdown": "the power supply or the board requested less power: check the supply's load and cables",
}
SLOW = tuple(name for name, weight in WEIGHT.items() if weight in ("fault", "heat"))
"""Reasons that show a problem of the GPU under any load."""


def reasons(mask: int) -> list[str]:
    """Return the reasons of a mask; unknown bits are returned as a number."""
    named = [name for bit, name in REASONS.items() if mask & bit]
    unknown = mask & ~sum(REASONS)
    return named + ([f"{unknown:#x}"] if unknown else [])


def shares(masks: Sequence[int]) -> dict[str, float]:
    """Return the share of samples, 0 to 1, in which each reason was active."""
    counts: dict[str, int] = {}
    for mask in masks:
        for name in reasons(mask):
            counts[name] = counts.get(name, 0) + 1
    return {name: count / len(masks) for name, count in counts.items()}
