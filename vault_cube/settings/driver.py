"""Pillar section `driver`: the NVIDIA driver, its source, and the settings of the GPUs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vault_cube.settings.compatibility import CUDA_NEEDS, CUDNN_FOR_CUDA_13, GENERATION_NEEDS, OPEN_ONLY
from vault_cube.settings.repository import Repository
from vault_cube.settings.strict import PackageName, Section

Branch = Annotated[str, Field(pattern=r"^\d{3}$", description="Driver branch, such as 580")]


class Cuda(Section):
    """The CUDA toolkit and cuDNN of the Python environments; the driver must be new enough for them."""

    toolkit: Annotated[str, Field(pattern=r"^\d+\.\d+$", description="Version of the CUDA toolkit, major.minor")]
    cudnn: Annotated[str, Field(pattern=r"^\d+\.\d+$", description="Version of cuDNN, major.minor")]


class Power(Section):
    """Limits that the power supply and the slots impose."""

    limit_w: Annotated[int, Field(ge=100, le=1000)] | None = Field(
        description="Power limit of each GPU; null: the card's default"
    )
    pcie_aspm: Literal["default", "performance"] = Field(
        description="ASPM policy of the kernel; performance keeps PCIe links awake if some drop"
    )


class DriverGates(Section):
    """Thresholds of `layer.check driver` on a live box."""

    gpus: Annotated[int, Field(ge=0, description="Number of GPUs")]
    memory_mib: Annotated[int, Field(ge=0, description="Memory of each GPU, as nvidia-smi shows it")]
    pcie_generation: Annotated[
        int, Field(ge=0, le=7, description="PCIe generation of each GPU under load; an idle card may drop to 1")
    ]
    pcie_width: Annotated[int, Field(ge=0, le=16, description="PCIe lanes of each GPU under load")]
    idle_celsius: Annotated[int, Field(ge=0, le=100, description="Upper limit of each GPU's temperature while idle")]


class Driver(Section):
    """Layer 2: the NVIDIA driver."""

    packages: list[PackageName] = Field(description="Packages of the driver")
    provider: Literal["ubuntu", "nvidia", "debian", "none"] = Field(
        description="Source: ubuntu (signed modules), nvidia (the CUDA repository), debian (non-free, DKMS), or none"
    )
    branch: Branch | None = Field(description="Driver branch, such as 580; null: no driver")
    modules: Literal["open", "proprietary"] | None = Field(description="Flavour of the kernel modules")
    generation: Literal["turing", "ampere", "ada", "hopper", "blackwell"] | None = Field(
        description="Architecture of the GPUs"
    )
    held: list[PackageName] = Field(
        description="Packages on hold: all of packages, and those that must match them, such as the kernel"
    )
    repositories: list[Repository] = Field(description="apt repositories of the vendor; for provider nvidia only")
    cuda: Cuda | None
    persistence: bool = Field(
        description="Whether nvidia-persistenced keeps the GPUs initialised while no process uses them"
    )
    load: list[Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]] = Field(description="Kernel modules loaded at boot")
    blocked: list[Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]] = Field(
        description="Kernel modules never loaded (blacklist)"
    )
    power: Power
    gates: DriverGates

    @model_validator(mode="after")
    def _one_source(self) -> "Driver":
        if self.provider == "none":
            for name in ("packages", "branch", "modules", "generation", "held", "repositories", "cuda"):
                if getattr(self, name):
                    raise ValueError(f"provider none installs no driver: leave {name} empty")
            return self
        if self.branch is None or self.modules is None or self.generation is None:
            raise ValueError(f"provider {self.provider} needs branch, modules and generation")
        if (self.provider == "nvidia") != bool(self.repositories):
            raise ValueError("repositories must be set for provider nvidia and empty for others: do not mix sources")
        for name in self.packages:
            source = _only_from(name)
            if source and source != self.provider:
                raise ValueError(f"{name} comes from provider {source}, not from {self.provider}: do not mix sources")
        if missing := [name for name in self.packages if name not in self.held]:
            raise ValueError(
                f"held lacks {', '.join(missing)}: add it, or an upgrade could change it without the other packages"
            )
        return self

    @model_validator(mode="after")
    def _versions_fit(self) -> "Driver":
        if self.branch and self.generation and int(self.branch) < GENERATION_NEEDS[self.generation]:
            raise ValueError(
                f"{self.generation} GPUs need driver {GENERATION_NEEDS[self.generation]} or newer, not {self.branch}"
            )
        if self.branch and self.cuda:
            major = int(self.cuda.toolkit.split(".")[0])
            need = CUDA_NEEDS.get(major)
            if need is None:
                raise ValueError(f"CUDA {self.cuda.toolkit} is not in the table of toolkits and drivers ({CUDA_NEEDS})")
            if int(self.branch) < need:
                raise ValueError(f"CUDA {self.cuda.toolkit} needs driver {need} or newer, not {self.branch}")
            cudnn = tuple(int(part) for part in self.cuda.cudnn.split("."))
            if major >= 13 and cudnn < CUDNN_FOR_CUDA_13:
                raise ValueError(f"CUDA {self.cuda.toolkit} needs cuDNN 9.12 or newer, not {self.cuda.cudnn}")
        if self.generation in OPEN_ONLY and self.modules != "open":
            raise ValueError(f"{self.generation} GPUs need the open kernel modules: set modules to open")
        return self


def _only_from(package: str) -> str | None:
    """Return the only provider that has a package; None if its name does not show the provider."""
    if package.startswith(("linux-modules-nvidia-", "nvidia-headless-", "nvidia-utils-", "nvidia-compute-utils-")):
        return "ubuntu"
    if package in ("nvidia-open", "cuda-drivers", "nvidia-driver-assistant") or package.startswith("nvidia-open-5"):
        return "nvidia"
    if package in ("nvidia-open-kernel-dkms", "firmware-nvidia-gsp", "nvidia-smi"):
        return "debian"
    return None
