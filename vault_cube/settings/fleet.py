"""Pillar section `fleet`: the box as part of a fleet, and the machine that is the fleet's master."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vault_cube.settings.secrets import PublicKey
from vault_cube.settings.strict import Port, Section, Unit

Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$")]
"""A host name or an IP address."""
MinionId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){31}$")]
FunctionName = Annotated[str, Field(pattern=r"^[a-z_]+\.[a-z_]+$")]
Layer = Literal["base", "driver", "runtime", "frameworks", "validation"]
Seconds = Annotated[int, Field(ge=1)]
Days = Annotated[int, Field(ge=1)]


class Keepalive(Section):
    """TCP keepalive of the box's connections to the master."""

    idle_s: Seconds = Field(description="Silence after which a connection is probed")
    interval_s: Seconds = Field(description="Time between two probes")
    probes: Annotated[int, Field(ge=1, description="Unanswered probes after which the box connects again")]


class Role(Section):
    """What the members of a role may run; the box's own list `fleet:allow` applies as well."""

    boxes: list[FunctionName] = Field(description="Functions on the boxes")
    master: list[FunctionName] = Field(description="Runners on the master")


class Roles(Section):
    """The roles of the people who use salt-api: the Unix groups fleet-viewer, fleet-operator, fleet-admin."""

    viewer: Role = Field(description="Reads, changes nothing")
    operator: Role = Field(description="Also applies states and rolls releases out")
    admin: Role = Field(description="Also accepts and removes boxes")


class Server(Section):
    """The fleet's master: settings of `state.apply fleet`, which boxes do not use."""

    names: Annotated[list[Host], Field(min_length=1)] = Field(
        description="Host names and addresses in the certificate of salt-api"
    )
    port: Port = Field(description="Port of salt-api, behind nginx with TLS")
    internal_port: Port = Field(description="Port on loopback that nginx forwards to")
    token_s: Seconds = Field(description="Time after which a login expires")
    logins_per_minute: Annotated[int, Field(ge=1, description="Logins that one address may try per minute")]
    body_kib: Annotated[int, Field(ge=1, le=64, description="Largest request, in KiB"), Unit("KiB")]
    ca_days: Days = Field(description="Validity of the fleet's own certificate authority")
    certificate_days: Days = Field(description="Validity of the certificate; renewed in its last 30 days")
    api_memory_mib: Annotated[int, Field(ge=256, description="Memory at which salt-api is stopped and started again")]
    answer_s: Seconds = Field(description="Time after which the master asks a silent box whether its job still runs")
    worker_threads: Annotated[int, Field(ge=1, description="Processes of the master that answer boxes")]
    canaries: list[MinionId] = Field(description="Boxes that get a release first, in a batch of their own")
    batch: Annotated[int, Field(ge=1, description="Boxes that get a release at the same time")]
    checks: list[Layer] = Field(description="Layers that layer.check has to pass on a box before the next batch starts")
    outlier_share: Annotated[float, Field(gt=0, lt=1), Unit("share")] = Field(
        description="A box whose benchmark is this far below the median of boxes with the same GPUs is named"
    )
    roles: Roles


class Fleet(Section):
    """A fleet of boxes under one Salt master."""

    master: Host | None = Field(description="Address of the fleet's master; null: the box is in no fleet")
    master_key: Fingerprint | None = Field(
        description="Fingerprint of the master's key, from `salt-run fleet.fingerprint`; the box trusts no other master"
    )
    id: MinionId | None = Field(description="Name of the box on the master; null: base:hostname")
    publish_port: Port = Field(description="Port of the master that sends jobs")
    request_port: Port = Field(description="Port of the master that takes results")
    keepalive: Keepalive
    allow: list[FunctionName] = Field(description="Functions that the master may run on this box")
    signers: list[PublicKey] = Field(
        description="Public ssh keys that may sign releases; without one, a release needs no signature"
    )
    server: Server

    @model_validator(mode="after")
    def _master_has_a_key(self) -> "Fleet":
        if self.master and not self.master_key:
            raise ValueError(
                "fleet:master needs fleet:master_key: run `salt-run fleet.fingerprint` on the master and set its result"
            )
        return self

    @model_validator(mode="after")
    def _no_canary_twice(self) -> "Fleet":
        if len(set(self.server.canaries)) != len(self.server.canaries):
            raise ValueError("fleet:server:canaries names a box twice: remove one entry")
        return self

    @model_validator(mode="after")
    def _two_ports(self) -> "Fleet":
        if self.publish_port == self.request_port:
            raise ValueError(f"fleet:request_port {self.request_port} is also fleet:publish_port: change one of them")
        if self.server.port == self.server.internal_port:
            raise ValueError(
                f"fleet:server:internal_port {self.server.port} is also fleet:server:port: change one of them"
            )
        return self
