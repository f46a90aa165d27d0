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


class Warmth(Section):
    """Temperatures of the GPU itself; a card's own lower limits count, too."""

    warning: Celsius = Field(description="from here on it is too warm, °C")
    fault: Celsius = Field(description="from here on it is in danger, °C")
    fan: Celsius = Field(description="from here on a fan that stands still is broken, °C")

    @model_validator(mode="after")
    def _warned_before(self) -> "Warmth":
        if self.warning >= self.fault:
            raise ValueError(f"warning {self.warning} must be below fault {self.fault}")
        return self


class Health(Section):
    """What `gpu.health` judges by."""

    window_s: Seconds = Field(description="throttle reasons are sampled so long, seconds; `window_s=` overrules")
    load_s: Seconds = Field(description="`load=True` keeps the PCIe links busy so long, seconds")
    celsius: Warmth
    throttle_share: dict[Reason, Fraction] = Field(
        description="throttle reason -> share of samples that is well; else 0"
    )
    ecc_corrected: Count = Field(description="corrected memory errors since the driver was loaded that are well")
    pcie_replays: Count = Field(description="PCIe replays since the driver was loaded that are well")
    pcie_corrected: Count = Field(description="corrected PCIe errors (AER) since boot that are well")
    xid_hours: Seconds = Field(description="how long an XID of a program is news; one of the hardware stays it, hours")
    held_mib: Count = Field(description="memory that a process outside container and service may hold, MiB")
    accepted: dict[str, str] = Field(description="check -> reason why its warning or fault is accepted on this box")

    @field_validator("accepted")
    @classmethod
    def _of_a_check(cls, accepted: dict[str, str]) -> dict[str, str]:
        from vault_cube.gpu.health import names

        unknown = sorted(set(accepted) - set(names()))
        if unknown:
            raise ValueError(f"{unknown[0]} is no check of gpu.health: {', '.join(names())}")
        return accepted


class Gpu(Section):
    """`gpu.detect`, `gpu.topology`, `gpu.health`, `gpu.validate`."""

    answer_s: Seconds = Field(description="a driver that takes longer for an answer hangs, seconds")
    model: str | None = Field(description="part of every GPU's name as NVML gives it; null: any")
    compute_mode: Literal["default", "exclusive_process", "prohibited"]
    mig: bool = Field(description="whether the GPUs are meant to be split")
    health: Health
