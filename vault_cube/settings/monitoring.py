"""Pillar section `validation:monitoring`: what is measured all the time, who may read it, and when it is an alert."""

from typing import Annotated

from pydantic import Field

from vault_cube.settings.strict import AbsolutePath, Port, Section

Seconds = Annotated[int, Field(ge=1)]
Minutes = Annotated[int, Field(ge=0)]
Address = Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+$", description="IP address")]
Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]*$")]


class Alert(Section):
    """A value above which somebody should know, once it has lasted."""

    above: Annotated[float, Field(ge=0, strict=False)]
    minutes: Minutes = Field(description="how long the value must stay above")


class Alerts(Section):
    """The thresholds of the alert rules and of the boards' colours."""

    gpu_warm: Alert = Field(description="GPU temperature, °C: warning")
    gpu_hot: Alert = Field(description="GPU temperature, °C: critical")
    gpu_memory: Alert = Field(description="used share of a GPU's memory, 0 to 1")
    gpu_throttled: Alert = Field(description="share of the last 5 minutes slowed by heat or the supply, 0 to 1")
    gpu_power: Alert = Field(description="draw of one GPU, W")
    box_power: Alert = Field(description="draw of all GPUs together, W")
    disk_filling: Alert = Field(description="used share of a file system, 0 to 1: warning")
    disk_full: Alert = Field(description="used share of a file system, 0 to 1: critical")
    memory: Alert = Field(description="used share of the box's memory, 0 to 1")
    nvme_hot: Alert = Field(description="temperature of an NVMe, °C")
    nvme_worn: Alert = Field(description="used share of an NVMe's rated endurance, 0 to 1")
    xid_minutes: Minutes = Field(description="an XID of the hardware is an alert so long, minutes")
    down_minutes: Minutes = Field(description="a box, service or GPU may be away so long, minutes")
    stale_minutes: Minutes = Field(description="beyond two intervals, a collector may be silent so long, minutes")


class Dcgm(Section):
    """NVIDIA's dcgm-exporter, as a container of the runtime layer."""

    image: Annotated[str, Field(pattern=r"^\S+@sha256:[0-9a-f]{64}$")] | None = Field(
        description="image with its digest; null: not used"
    )
    port: Port = Field(description="on loopback")


class Prometheus(Section):
    """The server that keeps the numbers and evaluates the rules."""

    enabled: bool
    port: Port = Field(description="on loopback")
    every_s: Seconds = Field(description="time between two scrapes, seconds")
    retention_days: Annotated[int, Field(ge=1)]
    alertmanagers: list[Annotated[str, Field(pattern=r"^[\w.:\[\]-]+:\d+$")]] = Field(description="host:port of each")


class Monitoring(Section):
    """Exporters, rules, boards and the beacon of layer 5."""

    user: Name = Field(description="account of the exporters, as Debian's packages name it")
    uid: Annotated[int, Field(ge=600, le=999)]
    address: Address = Field(description="the node exporter listens here")
    port: Port
    textfiles: AbsolutePath = Field(description="the node exporter's textfile folder")
    files: AbsolutePath = Field(description="rules, boards and Prometheus' configuration")
    gpus_every_s: Seconds = Field(description="time between two readings of the GPUs, seconds")
    disks_every_s: Seconds = Field(description="time between two readings of the disks' SMART data, seconds")
    beacon_every_s: Seconds = Field(description="time between two looks of the Salt beacon, seconds")
    dcgm: Dcgm
    prometheus: Prometheus
    alerts: Alerts
