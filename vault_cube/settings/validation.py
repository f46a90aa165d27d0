"""Pillar section `validation`: the record of the image, and monitoring with the thresholds of alerts."""

from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from vault_cube.settings.strict import AbsolutePath, PackageName, Port, Section, Unit

Seconds = Annotated[int, Field(ge=1)]
Minutes = Annotated[int, Field(ge=0)]


def _ip_address(text: str) -> str:
    ip_address(text)  # raises a descriptive ValueError
    return text


Address = Annotated[str, Field(pattern=r"^[0-9a-fA-F.:]+$", description="IP address"), AfterValidator(_ip_address)]
Calendar = Annotated[str, Field(min_length=1, pattern=r"^[\w:*/,.~ -]+$")]
Pattern = Annotated[str, Field(pattern=r"^/[^/].*$")]
Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]*$")]


class Alert(Section):
    """The threshold of an alert."""

    above: Annotated[float, Field(ge=0, strict=False, description="Value above which the alert fires")]
    minutes: Minutes = Field(description="Time for which the value must stay above it")


class Alerts(Section):
    """Thresholds of the alert rules and of the dashboards' colours."""

    gpu_warm: Annotated[Alert, Unit("°C")] = Field(description="GPU temperature: warning")
    gpu_hot: Annotated[Alert, Unit("°C")] = Field(description="GPU temperature: critical")
    gpu_memory: Annotated[Alert, Unit("share")] = Field(description="Used share of a GPU's memory")
    gpu_throttled: Annotated[Alert, Unit("share")] = Field(
        description="Share of the last 5 minutes in which heat or the power supply slowed a GPU"
    )
    gpu_power: Annotated[Alert, Unit("W")] = Field(description="Power draw of one GPU")
    box_power: Annotated[Alert, Unit("W")] = Field(description="Power draw of all GPUs together")
    disk_filling: Annotated[Alert, Unit("share")] = Field(description="Used share of a file system: warning")
    disk_full: Annotated[Alert, Unit("share")] = Field(description="Used share of a file system: critical")
    memory: Annotated[Alert, Unit("share")] = Field(description="Used share of the box's memory")
    nvme_hot: Annotated[Alert, Unit("°C")] = Field(description="Temperature of an NVMe drive")
    nvme_worn: Annotated[Alert, Unit("share")] = Field(description="Used share of an NVMe drive's rated endurance")
    xid_minutes: Minutes = Field(description="Time for which a hardware XID stays an alert")
    down_minutes: Minutes = Field(
        description="Time for which a box, a service or a GPU may be unavailable before it is an alert"
    )
    stale_minutes: Minutes = Field(description="Time, after two missed intervals, until stale readings are an alert")
    drift_hours: Annotated[int, Field(ge=1)] = Field(
        description="Age at which the last comparison with the image is an alert"
    )


class Dcgm(Section):
    """NVIDIA's dcgm-exporter, in a container."""

    image: Annotated[str, Field(pattern=r"^\S+@sha256:[0-9a-f]{64}$")] | None = Field(
        description="Container image with its digest; null: not used"
    )
    port: Port = Field(description="Port on loopback")


class Prometheus(Section):
    """A Prometheus server on the box, which stores the readings and evaluates the alert rules."""

    enabled: bool = Field(description="Whether the server runs; its package must be in validation:packages")
    port: Port = Field(description="Port on loopback")
    every_s: Seconds = Field(description="Time between two scrapes")
    retention_days: Annotated[int, Field(ge=1, description="Age at which readings are deleted")]
    alertmanagers: list[Annotated[str, Field(pattern=r"^[\w.:\[\]-]+:\d+$")]] = Field(
        description="Alertmanagers, host:port"
    )


class Monitoring(Section):
    """Exporters, alert rules, dashboards and the Salt beacon."""

    user: Name = Field(description="Account of the exporters, as Debian's packages name it")
    uid: Annotated[int, Field(ge=600, le=999, description="User and group id of the account")]
    address: Address = Field(description="Address that the node exporter listens on")
    port: Port = Field(description="Port of the node exporter")
    textfiles: AbsolutePath = Field(description="The node exporter's textfile folder")
    files: AbsolutePath = Field(
        description="Folder of the alert rules, the dashboards and the configuration of Prometheus"
    )
    gpus_every_s: Seconds = Field(description="Time between two readings of the GPUs")
    disks_every_s: Seconds = Field(description="Time between two readings of the disks' SMART data")
    beacon_every_s: Seconds = Field(description="Time between two runs of the Salt beacon")
    dcgm: Dcgm
    prometheus: Prometheus
    alerts: Alerts


class Drift(Section):
    """The comparison of a box with the manifest of its image."""

    every: Calendar = Field(description="When the timer runs drift.report, as in systemd.time(7)")
    full_every: Calendar = Field(description="When the timer runs drift.report full=True, which reads all files")
    expected: dict[Pattern, str] = Field(
        description="Paths that may differ from the image, and why; * matches within a name, ** everything below"
    )
    listen: list[Annotated[str, Field(pattern=r"^(tcp|udp) [0-9]{1,5}$")]] = Field(
        description="Ports that listen for other machines, beside base:firewall:allow_tcp, such as `udp 68`"
    )
    signers: list[Annotated[str, Field(pattern=r"^(ssh-|ecdsa-|sk-)\S+ \S+( .*)?$")]] = Field(
        description="Public ssh keys whose signed updates of the box's checkout are accepted"
    )


class Validation(Section):
    """Layer 5: monitoring, checks and benchmarks; the thresholds of a layer's checks are in its own `gates`."""

    packages: list[PackageName] = Field(description="Packages of the layer")
    manifest: AbsolutePath = Field(
        description="File with name, version and target of the image that the box was made from"
    )
    monitoring: Monitoring
    drift: Drift

    @model_validator(mode="after")
    def _installed(self) -> "Validation":
        needed = ["prometheus-node-exporter", "smartmontools"]
        needed += ["prometheus"] if self.monitoring.prometheus.enabled else []
        missing = [name for name in needed if name not in self.packages]
        if missing:
            raise ValueError(f"monitoring needs {', '.join(missing)}: add them to validation:packages")
        return self
