"""The fields of what benchmarks and burn-ins pass on, store and print, as types. Units are in the names.

A value that was not measured is absent, never 0. The models of a result are in judge/result.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired, Required

from pydantic import with_config

# pydantic cannot read those of `typing` before Python 3.12
from typing_extensions import TypedDict

from vault_cube.verdicts import Status

Number = int | float
"""In a model, pydantic would convert an integer of a plain `float` field, and so change the JSON."""

# ---- the machine


@with_config(extra="allow")
class Gpu(TypedDict, total=False):
    """What identifies a GPU."""

    index: int
    name: str
    uuid: str
    memory_mib: int
    power_limit_w: Number
    clock_max_mhz: int
    bus_id: str
    cpus: str
    """The processor's cores near it."""


# ---- sensors

Sensor = Literal["temperature_c", "power_w", "clock_mhz", "utilisation"]
ErrorCounter = Literal["ecc_uncorrected", "pcie_replays", "pcie_corrected"]
Curve = Literal[Sensor, "tflops"]
"""What a burn-in draws over time."""


class Sensors(TypedDict, total=False):
    """One reading of a device. A field without a sensor is absent."""

    utilisation: float | None
    """Share of time, 0 to 1; None: not valid yet."""
    memory_used_mib: int
    power_w: float
    temperature_c: float
    clock_mhz: float
    throttle: list[str]
    """Reasons."""
    ecc_uncorrected: int
    pcie_replays: int
    pcie_corrected: int
    xids: list[int]
    unread: list[str]
    """NVML functions that failed, each with the reason."""
    problem: str
    log: bool
    """True for XIDs of the kernel's log, between two runs of a burn-in."""


Reading = dict[str, Sensors]
"""By device: `cpu`, `cuda:N`; `sensors` has only a problem of all, `box` the XIDs of an unnamed GPU."""


@with_config(extra="allow")
class Spread(TypedDict, total=False):
    """Statistics of a sensor's readings."""

    mean: Number
    least: Number
    most: Number
    variation: Number
    """Coefficient of variation."""


@with_config(extra="allow")
class Summed(TypedDict, total=False):
    """The readings of a device during a phase of a workload."""

    readings: int
    """Number of readings."""
    utilisation: Spread
    memory_used_mib: Spread
    power_w: Spread
    temperature_c: Spread
    clock_mhz: Spread
    throttle: dict[str, Number]
    """Reason -> share of the readings."""


Phases = dict[str, dict[str, Summed]]
"""By phase and device."""


class LoggedXid(TypedDict):
    """An XID of the kernel's log. time: seconds since 1970."""

    xid: int
    time: float


# ---- what a workload prints


class Measured(TypedDict):
    """A metric, before its statistics."""

    quantity: str
    unit: str
    better: Literal["higher", "lower"]
    samples: list[float]
    subject: NotRequired[str | None]
    device: NotRequired[str | None]
    peer: NotRequired[str | None]
    phase: NotRequired[str | None]


class WorkloadError(TypedDict):
    """The error that ended a workload."""

    kind: str
    message: str


class Document(TypedDict, total=False):
    """The document of a workload: everything up to `checks`, or only `error`."""

    device: str
    workload: dict[str, object]
    versions: dict[str, str | None]
    metrics: list[Measured]
    checks: list[Mapping[str, object]]
    """Each is a `Check` of judge/result.py."""
    error: WorkloadError


# ---- what a command shows


class Interval(TypedDict):
    """A median and the 95 % interval around it."""

    median: float | None
    low: float | None
    high: float | None


class Summary(TypedDict):
    """The summary of a result, which the grain `gpu_benchmark` reads."""

    verdict: Status
    accelerator: str
    simulated: bool
    quick: bool
    started: str
    file: str
    verdicts: list[dict[str, str | int]]
    """Check, status, and the GPU if there is one."""
    bad: list[Mapping[str, object]]
    suites: dict[str, str]
    numbers: dict[str, Interval]


class Change(TypedDict):
    """The change of a metric between two results."""

    unit: str
    a: float
    b: float
    ratio: float
    covered: bool
    p: float
    means: str
    """faster, slower or noise"""


class Compared(TypedDict):
    """The comparison of two results."""

    a: str
    b: str
    differs: list[str]
    changes: dict[str, Change]
    missing: list[str]


# ---- burn-in


class Work(TypedDict):
    """What a device computed since the sample before, or in all."""

    products: int
    wrong: int
    tflops: NotRequired[float]


class Sample(TypedDict):
    """One line of `samples.jsonl`. at: seconds since the start; time: since 1970; boot: number of the boot, from 1."""

    at: float
    time: NotRequired[float]
    boot: NotRequired[int]
    devices: Reading
    work: dict[str, Work]


class TimedXid(TypedDict):
    """An XID during a burn-in. at: seconds since its start."""

    at: float
    xid: int


class Described(TypedDict):
    """A value over time: its statistics, and points of seconds and value."""

    least: float
    median: float
    most: float
    curve: list[list[float]]


class BurntDevice(TypedDict, total=False):
    """The samples of a device."""

    samples: Required[int]
    unread: Required[int]
    """Number of samples without a temperature."""
    throttle_share: dict[str, float]
    temperature_c: Described
    power_w: Described
    clock_mhz: Described
    utilisation: Described
    tflops: Described
    clock_later_share: float
    """Clock after the first hour, relative to that of the first hour."""
    xids: list[TimedXid]
    ecc_uncorrected: int
    pcie_replays: int
    pcie_corrected: int


class BurntHour(TypedDict, total=False):
    """One hour of a card: its verdict, medians, and the highest temperature."""

    hour: Required[int]
    verdict: Required[Status]
    problems: Required[list[str]]
    products: Required[int]
    wrong: Required[int]
    tflops: float
    clock_mhz: float
    power_w: float
    temperature_c: float


class BurntCard(TypedDict):
    """The verdict on a card."""

    verdict: Status
    problems: list[str]
    hours: list[BurntHour]


class Judged(TypedDict):
    """The verdict on the samples of a burn-in."""

    verdict: Status
    problems: list[str]
    burnt_s: float
    whole: bool
    """True if the requested duration was reached."""
    cards: dict[str, BurntCard]
    devices: dict[str, BurntDevice]
    work: dict[str, Work]


class BurntMachine(TypedDict, total=False):
    """Where a burn-in ran; empty after `abandon`."""

    simulated: bool
    machine: Mapping[str, object]
    """A `Machine` of judge/result.py."""


class BurnIn(Judged, BurntMachine):
    """`verdict.json` of a burn-in."""

    schema_version: int
    name: str
    started: str
    asked_s: float
    boots: int
