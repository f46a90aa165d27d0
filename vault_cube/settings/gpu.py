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
CHECK_NAMES = (
    "driver answers", "count", "one uuid each", "model", "memory", "one vbios", "versions agree", "kernel modules",
    "device files", "nobody else", "secure boot", "peer path", "containers", "answers", "ecc", "ecc mode", "inforom",
    "remapped rows", "retired pages", "resizable bar", "pcie slot", "pcie link", "pcie errors", "nvlink",
    "temperature", "fan", "power cap", "power supply", "throttling", "clocks", "recovery", "xids", "performance",
    "persistence", "compute mode", "mig", "processes",
)  # fmt: skip
"""The checks of `gpu.health`, in their order. The schema imports no check, so that it depends on nothing."""

Held = Literal["thermal", "sw_thermal", "hw_thermal", "power_brake"]


class Warmth(Section):
    """Temperature limits of the GPU core; the card's own limits apply if they are lower."""

    warning: Celsius = Field(description="Temperature from which a GPU is a warning")
    fault: Celsius = Field(description="Temperature from which a GPU is a fault")
    fan: Celsius = Field(description="Temperature from which a fan at 0 % is a fault")
    margin_from: Celsius = Field(
        description="Temperature below which a margin of 0 or less is taken for an error of the driver"
    )
    margin_fault: Annotated[int, Field(ge=-50, le=0)] = Field(
        description="Margin to the card's slowdown, °C; this or less is a fault"
    )

    @model_validator(mode="after")
    def _warned_before(self) -> "Warmth":
        if self.warning >= self.fault:
            raise ValueError(f"warning {self.warning} must be below fault {self.fault}")
        return self


class Pages(Section):
    """Limits of retired pages, which cards before Ampere have."""

    fault: Count = Field(description="Number of retired pages from which the card has to be replaced")
    double_bit: Count = Field(description="Pages retired for double-bit errors that are accepted; more are a warning")


class Acceptance(Section):
    """A finding of a check that is accepted on this box."""

    reason: str = Field(description="Reason for which it is accepted")
    gpus: list[Count] | None = Field(description="Numbers of the GPUs that it is accepted on; null: all")
    faults: bool = Field(description="Whether a fault is accepted as well as a warning")
    xids: list[Count] = Field(description="Codes that are accepted, for the check `xids`")


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
    pcie_replays: Count = Field(description="PCIe replays per day of uptime that are accepted")
    pcie_corrected: Count = Field(description="Corrected PCIe errors (AER) per day of uptime that are accepted")
    xid_hours: Seconds = Field(
        description="Time for which an XID of an application is a warning; a hardware XID always is one"
    )
    held_mib: Count = Field(description="GPU memory that a process outside containers and services may use")
    accepted: dict[str, str | Acceptance] = Field(
        description="Checks whose warning is accepted on this box: name to reason, or to reason, gpus, faults and xids"
    )
    remapped_rows: Annotated[int, Field(ge=1)] = Field(
        description="Number of rows remapped for uncorrected errors from which the card has to be replaced"
    )
    retired_pages: Pages
    pcie_replays_loaded: Count = Field(
        description="PCIe replays that are accepted while load=True keeps the links busy"
    )
    power_over: Fraction = Field(description="Power above the power cap that is accepted, as a share of the cap")
    held_down_s: dict[Held, Seconds] = Field(
        description="Time since the driver was loaded for which a reason may have held the clocks down"
    )
    nvlinks: dict[str, Count] = Field(description="NVLinks that a model has by design, by the end of the model's name")

    @field_validator("accepted")
    @classmethod
    def _of_a_check(cls, accepted: dict[str, str | Acceptance]) -> dict[str, str | Acceptance]:
        unknown = sorted(set(accepted) - set(CHECK_NAMES))
        if unknown:
            raise ValueError(f"{unknown[0]} is not a check of gpu.health, whose checks are {', '.join(CHECK_NAMES)}")
        return accepted


class Reset(Section):
    """Settings of `gpu.reset`."""

    stop: list[Annotated[str, Field(pattern=r"^[\w@.-]+\.(service|timer)$")]] = Field(
        description="Units that keep GPUs open, in the order in which they are stopped; those that ran start again"
    )


class Gpu(Section):
    """The expected GPUs, for `gpu.detect`, `gpu.topology`, `gpu.health`, `gpu.validate` and `gpu.reset`."""

    answer_s: Seconds = Field(
        description="Time limit for an answer of the driver; the grains, which precede the pillar, use 1.5 s"
    )
    model: str | None = Field(description="End of every GPU's name in NVML, such as RTX 5090; null: any name")
    compute_mode: Literal["default", "exclusive_process", "prohibited"] = Field(description="Compute mode of each GPU")
    mig: bool = Field(description="Whether the GPUs must be in MIG mode")
    health: Health
    reset: Reset
