"""Pillar section `runtime`: GPUs in containers."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vault_cube.settings.repository import Repository
from vault_cube.settings.strict import PackageName, Section


class RuntimeGates(Section):
    """Thresholds of `layer.check runtime` on a live box."""

    gpus: Annotated[int, Field(ge=0, description="Number of GPUs that a container with all of them sees")]
    together: Annotated[
        int, Field(ge=0, description="Number of containers that run at the same time with one GPU each")
    ]


class Runtime(Section):
    """Layer 3: GPUs in containers."""

    packages: list[PackageName] = Field(description="Packages of the layer")
    provider: Literal["nvidia", "vault-cube", "none"] = Field(
        description="Source of GPUs in containers: nvidia (the Container Toolkit), vault-cube (a CDI specification "
        "that the box writes at boot, without the toolkit), or none"
    )
    mode: Literal["cdi", "runtime"] | None = Field(
        description="How Docker passes GPUs on: cdi needs Docker 25; runtime adds an entry to daemon.json"
    )
    cgroup_driver: Literal["systemd", "cgroupfs"] | None = Field(
        description="Docker's cgroup driver; systemd loses GPUs on daemon-reload (nvidia-container-toolkit issue 48)"
    )
    repositories: list[Repository] = Field(description="apt repositories of the vendor")
    gates: RuntimeGates

    @model_validator(mode="after")
    def _whole(self) -> "Runtime":
        set_keys = [name for name in ("packages", "mode", "cgroup_driver") if getattr(self, name)]
        if self.provider == "none" and (set_keys or self.repositories):
            raise ValueError(f"provider none configures nothing: leave {', '.join(set_keys) or 'repositories'} empty")
        if self.provider == "nvidia" and (self.mode is None or self.cgroup_driver is None or not self.packages):
            raise ValueError("provider nvidia needs packages, mode and cgroup_driver")
        if self.provider == "vault-cube" and (self.mode != "cdi" or self.cgroup_driver is None or self.repositories):
            raise ValueError("provider vault-cube needs mode cdi and cgroup_driver, and no repositories")
        if self.mode == "runtime" and self.cgroup_driver == "systemd":
            raise ValueError("in mode runtime, cgroup_driver systemd loses GPUs on daemon-reload: use cgroupfs")
        return self
