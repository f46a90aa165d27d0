"""Pillar section `gpu`: which GPUs the box has, and what health means. Counts and links stand in driver:gates."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vault_cube.settings.strict import Fraction, Section

Celsius = Annotated[int, Field(ge=30, le=120)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0, strict=False)]
Reason = Literal[
    "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal_slowdown", "hw_thermal_slowdown",
    "hw_power_brake_slowdown", "board_limit", "reliability",
]  # fmt: skip


Held = Literal["thermal", "sw_thermal", "hw_thermal", "power_brake"]


class Warmth(Section):
    """Temperatures of the GPU itself; a card's own lower limits count, too."""

    warning: Celsius = Field(description="from here on it is too warm, °C")
    fault: Celsius = Field(description="from here on it is in danger, °C")
    fan: Celsius = Field(description="from here on a fan that stands still is broken, °C")
    margin_from: Celsius = Field(description="below it a margin of 0 or less is the driver's slip, °C")
    margin_fault: Annotated[int, Field(ge=-50, le=0)] = Field(
        description="margin to the card's slowdown from which on, and below, it is a fault, °C"
    )

    @model_validator(mode="after")
    def _warned_before(self) -> "Warmth":
        if self.warning >= self.fault:
            raise ValueError(f"warning {self.warning} must be below fault {self.fault}")
        return self


class Pages(Section):
    """Retired pages, on cards before Ampere."""

    fault: Count = Field(description="from so many retired pages on the card is to be replaced")
    double_bit: Count = Field(description="more pages retired for double bit errors are a warning")


class Acceptance(Section):
    """What is accepted of a check."""

    reason: str
    gpus: list[Count] | None = Field(description="on these GPUs only; null: on all")
    faults: bool = Field(description="whether a fault is accepted, too, and not only a warning")
    xids: list[Count] = Field(description="for the check `xids`: these codes, and no other")


class Health(Section):
    """What `gpu.health` judges by."""

    window_s: Seconds = Field(description="throttle reasons are sampled so long, seconds; `window_s=` overrules")
    load_s: Seconds = Field(description="`load=True` keeps the PCIe links busy so long, seconds")
    celsius: Warmth
    throttle_share: dict[Reason, Fraction] = Field(
        description="throttle reason -> share of samples that is well; else 0"
    )
    ecc_corrected: Count = Field(description="corrected memory errors since the driver was loaded that are well")
    pcie_replays: Count = Field(description="PCIe replays since the driver was loaded that are well, per day of uptime")
    pcie_replays_loaded: Count = Field(description="PCIe replays while `load=True` keeps the links busy that are well")
    pcie_corrected: Count = Field(description="corrected PCIe errors (AER) since boot that are well, per day of uptime")
    remapped_rows: Annotated[int, Field(ge=1)] = Field(
        description="from so many rows remapped for uncorrected errors on the card is to be replaced"
    )
    retired_pages: Pages
    power_over: Fraction = Field(description="draw above the power cap that is well, as a share of the cap")
    held_down_s: dict[Held, Seconds] = Field(
        description="reason -> time for which it held the clocks down since the driver was loaded that is well, seconds"
    )
    nvlinks: dict[str, Count] = Field(description="model (the end of its name) -> NVLinks that it has by design")
    xid_hours: Seconds = Field(description="how long an XID of a program is news; one of the hardware stays it, hours")
    held_mib: Count = Field(description="memory that a process outside container and service may hold, MiB")
    accepted: dict[str, str | Acceptance] = Field(
        description="check -> reason why its warning is accepted on this box; in full: reason, gpus, faults, xids"
    )

    @field_validator("accepted")
    @classmethod
    def _of_a_check(cls, accepted: dict[str, str | Acceptance]) -> dict[str, str | Acceptance]:
        from vault_cube.gpu.health import names

        unknown = sorted(set(accepted) - set(names()))
        if unknown:
            raise ValueError(f"{unknown[0]} is no check of gpu.health: {', '.join(names())}")
        return accepted


class Reset(Section):
    """`gpu.reset`."""

    stop: list[Annotated[str, Field(pattern=r"^[\w@.-]+\.(service|timer)$")]] = Field(
        description="units that hold the GPUs, in the order in which they are stopped; those that run are started again"
    )


class Gpu(Section):
    """`gpu.detect`, `gpu.topology`, `gpu.health`, `gpu.validate`, `gpu.reset`."""

    answer_s: Seconds = Field(description="a driver that takes longer for an answer hangs, seconds")
    model: str | None = Field(description="the words with which every GPU's name ends, such as RTX 5090; null: any")
    compute_mode: Literal["default", "exclusive_process", "prohibited"]
    mig: bool = Field(description="whether the GPUs are meant to be split")
    health: Health
    reset: Reset
