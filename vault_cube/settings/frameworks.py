"""Pillar section `frameworks`: one Python environment a framework, and the vLLM service."""

from typing import Annotated

from pydantic import Field, model_validator

from vault_cube.settings.environment import Environment
from vault_cube.settings.strict import AbsolutePath, PackageName, Port, Section

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]


class Service(Section):
    """vLLM as a systemd service with OpenAI's API on loopback."""

    environment: Name | None = Field(description="the environment that has vLLM; null: this target has none")
    enabled: bool = Field(description="started at boot; needs a model in the model folder")
    user: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]*$")]
    uid: Annotated[int, Field(ge=100, lt=1000, description="fixed, so that every image is the same")]
    models: AbsolutePath = Field(description="folder with one folder per model")
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", description="the folder below `models` that is served")]
    host: Annotated[str, Field(pattern=r"^127\.\d+\.\d+\.\d+$", description="loopback only; publish through a proxy")]
    port: Port = Field(description="of the first replica; replica n listens on port + n")
    replicas: Annotated[int, Field(ge=1, le=16, description="one process each, on one GPU each where there are GPUs")]
    arguments: list[str] = Field(description="appended to the server's command line")
    settings: dict[Annotated[str, Field(pattern=r"^[A-Z0-9_]+$")], str] = Field(description="environment variables")


class FrameworkGates(Section):
    """What `layer.check frameworks` measures against."""

    gpus: Annotated[int, Field(ge=0, description="GPUs each framework sees and computes on; 0: it computes on the CPU")]
    import_s: Annotated[int, Field(ge=1, description="a framework's import and one computation take at most this, s")]


class Frameworks(Section):
    """Layer 4."""

    packages: list[PackageName]
    folder: AbsolutePath = Field(description="where the environments lie, one folder each")
    environments: dict[Name, Environment]
    checks: dict[Name, Name] = Field(description="environment -> the framework that must import and compute in it")
    commands: dict[Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], list[str]] = Field(
        description="wrappers on PATH: name -> environment, program and fixed arguments"
    )
    kernels: list[Name] = Field(description="environments that are offered as Jupyter kernels")
    vllm: Service
    gates: FrameworkGates

    @model_validator(mode="after")
    def _known(self) -> "Frameworks":
        named = {*self.checks, *self.kernels, *(words[0] for words in self.commands.values() if words)}
        if self.vllm.environment:
            named.add(self.vllm.environment)
        unknown = sorted(named - set(self.environments))
        if unknown:
            raise ValueError(f"no such environment: {', '.join(unknown)}")
        for command, words in self.commands.items():
            if len(words) < 2:
                raise ValueError(f"command {command} needs an environment and a program")
        for kernel in self.kernels:
            if not any(wanted.startswith("ipykernel") for wanted in self.environments[kernel].requirements):
                raise ValueError(f"Jupyter kernel {kernel}: its environment does not require ipykernel")
        if self.vllm.enabled and not self.vllm.environment:
            raise ValueError("the vLLM service is enabled, and no environment is named for it")
        return self
