"""Why a GPU's clocks are lower than they could be: bits of a mask, several at a time; never compared as a whole.

Source: nvml.h, nvmlClocksEventReasons (docs.nvidia.com/deploy/nvml-api, "nvmlClocksEventReasons"); named as nvidia-smi
names them. What a bit weighs: `idle` and `chosen` are no throttling; `power` is the cap's doing; `fault` is the
hardware defending itself against heat or a supply that gives in.
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
    "hw_slowdown": "look at heat and power together: airflow, dust, the card's power connector, the supply",
    "hw_thermal_slowdown": "cool it: airflow, dust, room; the burn-in (gpu.stress) shows when it starts",
    "sw_thermal_slowdown": "cool it: airflow, dust, room; the burn-in (gpu.stress) shows when it starts",
    "hw_power_brake_slowdown": "the supply or the board asked for less: check the supply's load and cables",
}
SLOW = tuple(name for name, weight in WEIGHT.items() if weight in ("fault", "heat"))
"""Reasons that say the GPU is not well, whatever it does."""


def reasons(mask: int) -> list[str]:
    """The reasons of NVML's mask; a bit that has no name yet keeps its number."""
    named = [name for bit, name in REASONS.items() if mask & bit]
    unknown = mask & ~sum(REASONS)
    return named + ([f"{unknown:#x}"] if unknown else [])


def shares(masks: Sequence[int]) -> dict[str, float]:
    """The share of the samples, 0 to 1, in which each reason held."""
    seen: dict[str, int] = {}
    for mask in masks:
        for name in reasons(mask):
            seen[name] = seen.get(name, 0) + 1
    return {name: count / len(masks) for name, count in seen.items()}
