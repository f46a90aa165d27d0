"""Pillar section `gpu`: the expected GPUs and the thresholds of `gpu.health`; their number is in driver:gates."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vault_cube.settings.strict import Fraction, Section, Unit

Celsius = Annotated[int, Field(ge=30, le=120), Unit("°C")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0, strict=False)]
Reason = Literal[
    "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal_slowdown", "hw_thermal_slowdown",
    "hw_power_brake_slowdown", "board_limit", "reliability",
]  # fmt: skip


class Warmth(Section):
    """Temperature limits of the GPU core; the card's own limits apply if they are lower."""

    warning: Celsius = Field(description="Temperature from which a GPU is a warning")
    fault: Celsius = Field(description="Temperature from which a GPU is a fault")
    fan: Celsius = Field(description="Temperature from which a fan at 0 % is a fault")

    @model_validator(mode="after")
    def _warned_before(self) -> "Warmth":
        if self.warning >= self.fault:
            raise ValueError(f"warning {self.warning} must be below fault {self.fault}")
        return self


class Health(Section):
    """Thresholds of `gpu.health`."""

    window_s: Seconds = Field(
        description="Time over which throttle reasons are sampled; the argument window_s overrides it"
    )
    load_s: Seconds = Field(description="Time for which load=True keeps the PCIe links busy")
    celsius: Warmth
    throttle_share: dict[Reason, Fraction] = Field(
        description="Share of samples in which a throttle reason may be active; 0 for one that is not named"
    )
    ecc_corrected: Count = Field(description="Corrected memory errors since the driver was loaded that are accepted")
    pcie_replays: Count = Field(description="PCIe replays since the driver was loaded that are accepted")
    pcie_corrected: Count = Field(description="Corrected PCIe errors (AER) since boot that are accepted")
    xid_hours: Seconds = Field(
        description="Time for which an XID of an application is a warning; a hardware XID always is one"
    )
    held_mib: Count = Field(description="GPU memory that a process outside containers and services may use")
    accepted: dict[str, str] = Field(
        description="Checks whose warning or fault is accepted on this box: name to reason"
    )

    @field_validator("accepted")
    @classmethod
    def _of_a_check(cls, accepted: dict[str, str]) -> dict[str, str]:
        from vault_cube.gpu.health import names

        unknown = sorted(set(accepted) - set(names()))
        if unknown:
            raise ValueError(f"{unknown[0]} is not a check of gpu.health, whose checks are {', '.join(names())}")
        return accepted


class Gpu(Section):
    """The expected GPUs, for `gpu.detect`, `gpu.topology`, `gpu.health` and `gpu.validate`."""

    answer_s: Seconds = Field(
        description="Time limit for an answer of the driver; the grains, which precede the pillar, use 10 s"
    )
    model: str | None = Field(description="Text that every GPU's name in NVML contains; null: any name")
    compute_mode: Literal["default", "exclusive_process", "prohibited"] = Field(description="Compute mode of each GPU")
    mig: bool = Field(description="Whether the GPUs must be in MIG mode")
    health: Health
