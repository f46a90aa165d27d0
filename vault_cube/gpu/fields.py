"""The fields of all readings, as types. Units are in the names; a field that a device lacks is absent, never 0.

Readings are dictionaries, because they are merged, sent through a pipe and printed as JSON. Other files import these
types only for type checking: creating them takes longer than the whole grain of a machine without a driver.
"""

from __future__ import annotations

from typing import Required, TypedDict


class Pcie(TypedDict, total=False):
    """A GPU's PCIe link."""

    bus_id: str
    generation: int
    width: int
    replays: int
    generation_max: int
    """What card and slot support together."""
    width_max: int
    generation_gpu: int
    """What the card alone supports."""


class Process(TypedDict, total=False):
    """A process that holds memory of a GPU."""

    pid: Required[int]
    kind: Required[str]
    """compute or graphics"""
    memory_mib: int


class NvLink(TypedDict, total=False):
    """One NVLink of a GPU."""

    link: Required[int]
    active: Required[bool]
    version: int
    peer: str
    """gpu, processor or switch"""
    errors: dict[str, int]


class Power(TypedDict, total=False):
    """A card's power limits."""

    limit_default_w: float
    limit_min_w: float
    limit_max_w: float
    supply: str
    """ac, battery or undersized"""


class Card(TypedDict, total=False):
    """One GPU. Each question to the driver gives some of these fields; `gpu.detect` shows all of them.

    Clocks, thresholds and counters are dictionaries by NVML's name of the clock, threshold or counter.
    """

    index: Required[int]
    problem: str
    """Why the GPU does not answer, in one line."""
    kind: str
    """Kind of the problem, as in vault_cube/gpu/nvml/failures.py."""
    errors: dict[str, str]
    """NVML functions that failed while others worked, each with the reason."""
    implausible: dict[str, str]
    """NVML functions whose value was dropped, each with that value."""
    inforom_corrupted: list[str]

    # identity
    name: str
    uuid: str
    serial: str
    vbios: str
    part_number: str
    inforom: str
    minor: int
    gsp_firmware: str
    family: str
    compute_capability: str
    cores: int
    memory_mib: int
    memory_bus_bits: int
    numa_node: int
    bus_id: str
    pcie: Pcie

    # what it does now
    utilisation: float
    """Share of time in which a kernel ran, 0 to 1."""
    memory_utilisation: float
    encoder: float
    decoder: float
    memory_used_mib: int
    memory_free_mib: int
    memory_total_mib: int
    memory_reserved_mib: int
    bar1_mib: int
    power_w: float
    power_limit_w: float
    energy_j: float
    """Since the driver was loaded."""
    power: Power
    temperature_c: int
    memory_temperature_c: int
    thresholds_c: dict[str, int]
    margin_c: int
    """Distance to the temperature at which the clocks drop."""
    fan_percent: list[int]
    clock_mhz: int
    clocks_mhz: dict[str, int]
    clocks_max_mhz: dict[str, int]
    clocks_chosen_mhz: dict[str, int]
    clocks_default_mhz: dict[str, int]
    clock_offsets_mhz: dict[str, int]
    performance_state: int
    throttle: list[str]
    throttle_mask: int
    held_down_s: dict[str, float]
    """Time for which each policy held the clocks down since the driver was loaded."""
    processes: list[Process]

    # settings
    persistence: str
    compute_mode: str
    display_active: bool
    ecc: str
    ecc_pending: str
    ecc_default: str
    mig: str
    mig_pending: str

    # faults
    ecc_uncorrected: int
    """Since the driver was loaded."""
    ecc_errors: dict[str, dict[str, int]]
    """volatile and aggregate: corrected, uncorrected."""
    sram_exceeded: bool
    remapped_rows: dict[str, int]
    spare_rows: dict[str, int]
    retired_pages: dict[str, int]
    recovery: str
    nvlinks: list[NvLink]


class Versions(TypedDict, total=False):
    """The driver, without any GPU."""

    driver_version: str
    driver_branch: str
    cuda_driver_version: str
    nvml_version: str
    kernel_module: str
    """open or proprietary"""
    kernel_module_version: str
    problem: str
    problem_kind: str
    simulated: bool
    """True if a test's library answered."""


class Facts(Versions, total=False):
    """The grain `gpu`."""

    count: Required[int]
    devices: Required[list[Card]]
    accelerator: str
    """nvidia, or cpu if no GPU works"""


class Xid(TypedDict, total=False):
    """An XID, from NVML or from the kernel's log."""

    xid: Required[int]
    weight: Required[str]
    """fault, warning, program or info"""
    means: Required[str]
    todo: Required[str]
    index: int
    """The GPU; absent if the driver does not name it."""
    gpu: int | str
    """The same for metrics; `?` for a GPU that is gone."""
    bus_id: str
    message: str
    """The rest of the log's line."""
    instance: str
    """MIG instance."""
    at: float
    """Seconds since 1970."""


class Event(TypedDict, total=False):
    """Something that happened to a GPU, as the beacon sends it; an XID also has the fields of `Xid`."""

    tag: Required[str]
    """xid, lost, back or added"""
    what: Required[str]
    """`GPU 2`, `driver` or `count`"""
    problem: str
    simulated: bool
    xid: int
    weight: str
    means: str
    todo: str
    index: int
    bus_id: str
    message: str
    instance: str


class PciGpu(TypedDict, total=False):
    """A GPU on the PCI bus, with or without a driver."""

    bus_id: Required[str]
    device_id: Required[str]
    driver: str


class ProcessOrigin(TypedDict):
    """The name of a process and where it runs."""

    name: str
    where: str
    """container, service, session or another namespace"""


class LoadedLink(TypedDict, total=False):
    """A PCIe link under load: the best values, and the replays in that time; or why there was no load."""

    generation: int
    width: int
    replays: int
    problem: str


class Place(TypedDict, total=False):
    """Where a GPU is in the machine."""

    index: Required[int]
    problem: str
    kind: str
    bus_id: str
    numa_node: int
    cpus: str
    nvlinks: int
    """Number of active NVLinks."""


class Path(TypedDict, total=False):
    """The path between two GPUs."""

    path: str
    """As in `nvidia-smi topo --matrix`."""
    nvlinks: int
    p2p: bool
    read: str
    write: str


class Nccl(TypedDict):
    """The transport that NCCL will use."""

    transport: str
    why: str


class Topology(TypedDict, total=False):
    """How the GPUs reach each other."""

    gpus: Required[list[Place]]
    links: Required[dict[str, Path]]
    """By pair, such as `0-1`."""
    legend: Required[dict[str, str]]
    nccl: Required[Nccl]
    problem: str
    simulated: bool


class Holder(Process, total=False):
    """A process in the view of `gpu.monitor`."""

    gpu: int
    name: str
    where: str


class View(TypedDict, total=False):
    """One view of `gpu.monitor`."""

    driver_version: Required[str]
    gpus: Required[list[Card]]
    processes: Required[list[Holder]]
    problem: str
    simulated: bool


class CdiGpu(TypedDict, total=False):
    """What the CDI devices of a GPU are named after; None: the driver does not report it."""

    index: Required[int]
    problem: str
    kind: str
    uuid: str | None
    minor: int | None
    mig: bool


class DeviceNode(TypedDict, total=False):
    """A device node in a container; see CDI's SPEC.md for this class and the next three."""

    path: Required[str]
    hostPath: str
    permissions: str


class Mount(TypedDict):
    """A file of the box in a container."""

    hostPath: str
    containerPath: str
    options: list[str]


class Edits(TypedDict, total=False):
    """Changes of a container."""

    env: list[str]
    deviceNodes: list[DeviceNode]
    mounts: list[Mount]


class CdiDevice(TypedDict):
    """A device that `docker run --device` can name."""

    name: str
    containerEdits: Edits


class Specification(TypedDict):
    """A CDI specification."""

    cdiVersion: str
    kind: str
    devices: list[CdiDevice]
    containerEdits: Edits


class Reset(TypedDict, total=False):
    """The result of `gpu.reset`."""

    gpu: Required[int]
    commands: Required[list[str]]
    reset: bool
    message: str
    """The last line of nvidia-smi."""
    todo: str
    not_started: list[str]
    """Units that ran before and did not start again."""
