"""Pillar section `driver`: which kernel driver and user space the accelerator needs, and from where."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vault_cube.settings.compatibility import CUDA_NEEDS, CUDNN_FOR_CUDA_13, GENERATION_NEEDS, OPEN_ONLY
from vault_cube.settings.repository import Repository
from vault_cube.settings.strict import PackageName, Section

Branch = Annotated[str, Field(pattern=r"^\d{3}$", description="driver branch, such as 580")]


class Cuda(Section):
    """The CUDA toolkit and cuDNN that the box's environments carry."""

    toolkit: Annotated[str, Field(pattern=r"^\d+\.\d+$", description="CUDA toolkit, major.minor")]
    cudnn: Annotated[str, Field(pattern=r"^\d+\.\d+$", description="cuDNN, major.minor")]


class Power(Section):
    """What the supply and the slots stand."""

    limit_w: Annotated[int, Field(ge=100, le=1000)] | None = Field(description="cap per GPU, W; null: the card's own")
    pcie_aspm: Literal["default", "performance"] = Field(description="performance: links never sleep, where some drop")


class DriverGates(Section):
    """What `layer.check driver` measures against on a live box."""

    gpus: Annotated[int, Field(ge=0, description="how many GPUs the box has")]
    memory_mib: Annotated[int, Field(ge=0, description="memory of each GPU, MiB, as nvidia-smi says")]
    pcie_generation: Annotated[int, Field(ge=0, le=7, description="under load; idle cards drop to 1")]
    pcie_width: Annotated[int, Field(ge=0, le=16, description="lanes of each GPU, under load")]
    idle_celsius: Annotated[int, Field(ge=0, le=100, description="each GPU stays below this while idle, °C")]


class Driver(Section):
    """Layer 2."""

    packages: list[PackageName]
    provider: Literal["ubuntu", "nvidia", "debian", "none"] = Field(
        description="ubuntu: prebuilt signed modules; nvidia: the CUDA repository; debian: non-free with DKMS; none"
    )
    branch: Branch | None
    modules: Literal["open", "proprietary"] | None = Field(description="flavour of the kernel modules")
    generation: Literal["turing", "ampere", "ada", "hopper", "blackwell"] | None = Field(description="of the GPUs")
    held: list[PackageName] = Field(
        description="apt never upgrades these: all of packages, and what has to match them, such as the kernel"
    )
    repositories: list[Repository] = Field(description="the vendor's; only provider nvidia has one")
    cuda: Cuda | None
    persistence: bool = Field(description="keep the driver loaded while no client uses a GPU")
    load: list[Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]] = Field(description="kernel modules loaded at boot")
    blocked: list[Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")]] = Field(description="kernel modules never loaded")
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
            raise ValueError("NVIDIA's repository belongs to provider nvidia and to no other: two sources never mix")
        for name in self.packages:
            source = _only_from(name)
            if source and source != self.provider:
                raise ValueError(
                    f"{name} comes from provider {source}, not from {self.provider}: two sources never mix"
                )
        if loose := [name for name in self.packages if name not in self.held]:
            raise ValueError(f"held leaves out {', '.join(loose)}: an upgrade would part it from the other packages")
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
                raise ValueError(f"CUDA {self.cuda.toolkit} is not in the table of known toolkits ({CUDA_NEEDS})")
            if int(self.branch) < need:
                raise ValueError(f"CUDA {self.cuda.toolkit} needs driver {need} or newer, not {self.branch}")
            cudnn = tuple(int(part) for part in self.cuda.cudnn.split("."))
            if major >= 13 and cudnn < CUDNN_FOR_CUDA_13:
                raise ValueError(f"CUDA {self.cuda.toolkit} needs cuDNN 9.12 or newer, not {self.cuda.cudnn}")
        if self.generation in OPEN_ONLY and self.modules != "open":
            raise ValueError(f"{self.generation} GPUs run on the open kernel modules only")
        return self


def _only_from(package: str) -> str | None:
    """The one provider that has a package, where the name says it."""
    if package.startswith(("linux-modules-nvidia-", "nvidia-headless-", "nvidia-utils-", "nvidia-compute-utils-")):
        return "ubuntu"
    if package in ("nvidia-open", "cuda-drivers", "nvidia-driver-assistant") or package.startswith("nvidia-open-5"):
        return "nvidia"
    if package in ("nvidia-open-kernel-dkms", "firmware-nvidia-gsp", "nvidia-smi"):
        return "debian"
    return None
