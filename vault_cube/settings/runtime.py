"""Pillar section `runtime`: how containers get the GPUs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vault_cube.settings.repository import Repository
from vault_cube.settings.strict import PackageName, Section


class RuntimeGates(Section):
    """What `layer.check runtime` measures against on a live box."""

    gpus: Annotated[int, Field(ge=0, description="GPUs that a container given all of them sees")]
    together: Annotated[int, Field(ge=0, description="containers that hold one GPU each at the same time")]


class Runtime(Section):
    """Layer 3."""

    packages: list[PackageName]
    provider: Literal["nvidia", "vault-cube", "none"] = Field(
        description="nvidia: the Container Toolkit from NVIDIA's repository; vault-cube: a CDI specification of the "
        "installed driver, written at boot, without the toolkit"
    )
    mode: Literal["cdi", "runtime"] | None = Field(description="cdi where Docker is 25 or newer, else a runtime entry")
    cgroup_driver: Literal["systemd", "cgroupfs"] | None = Field(
        description="cgroupfs keeps a container's GPUs when systemd reloads (nvidia-container-toolkit issue 48)"
    )
    repositories: list[Repository]
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
            raise ValueError("mode runtime loses its GPUs on daemon-reload under cgroup_driver systemd: use cgroupfs")
        return self
