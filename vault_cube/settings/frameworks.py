"""Pillar section `frameworks`: one Python environment per framework, and the vLLM service."""

from typing import Annotated

from pydantic import Field, model_validator

from vault_cube.settings.strict import AbsolutePath, PackageName, Port, Section

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]
# of systemd's IPAddressAllow=
Reachable = Annotated[str, Field(pattern=r"^(localhost|link-local|multicast|any|[0-9a-f.:]+(/\d{1,3})?)$")]
# a word that a shell takes as it is (shlex.quote); the states write commands into shell scripts
ShellWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9@%+=:,./_-]+$")]


class Environment(Section):
    """A Python environment; `image.lock` resolves it to exact versions and hashes."""

    requirements: list[str] = Field(min_length=1, description="Requirement specifiers (PEP 508)")
    overrides: list[str] = Field(description="Requirement specifiers that replace what packages themselves require")
    excluded: list[str] = Field(description="Packages to leave out although another package requires them")


class Service(Section):
    """The vLLM service, with the OpenAI API on loopback."""

    environment: Name | None = Field(description="Environment with vLLM; null: the target has no vLLM")
    enabled: bool = Field(description="Whether the service starts at boot; it needs a model")
    user: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]*$", description="Account of the service")]
    uid: Annotated[int, Field(ge=100, lt=1000, description="User and group id of the account")]
    models: AbsolutePath = Field(description="Folder with one subfolder per model")
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", description="Subfolder of the model to serve")]
    host: Annotated[
        str,
        Field(
            pattern=r"^127\.\d+\.\d+\.\d+$", description="Address to listen on; loopback only, a proxy makes it public"
        ),
    ]
    port: Port = Field(description="Port of replica 0; replica n listens on port + n")
    replicas: Annotated[
        int, Field(ge=1, le=16, description="Number of server processes, each on one GPU if the target has GPUs")
    ]
    arguments: list[str] = Field(description="Further arguments of the server")
    reach: list[Reachable] = Field(
        min_length=1, description="Addresses and networks that the sandboxed service can reach (IPAddressAllow)"
    )
    settings: dict[Annotated[str, Field(pattern=r"^[A-Z0-9_]+$")], str] = Field(description="Environment variables")


class FrameworkGates(Section):
    """Thresholds of `layer.check frameworks`."""

    gpus: Annotated[int, Field(ge=0, description="Number of GPUs that each framework sees and computes on; 0: the CPU")]
    import_s: Annotated[int, Field(ge=1, description="Time limit for a framework's import and one computation")]


class Frameworks(Section):
    """Layer 4: Python environments of the frameworks."""

    packages: list[PackageName] = Field(description="Debian packages that the frameworks need")
    folder: AbsolutePath = Field(description="Folder of the environments")
    environments: dict[Name, Environment] = Field(description="Python environments by name")
    checks: dict[Name, Name] = Field(
        description="Framework that is checked in each environment: environment to framework"
    )
    commands: dict[Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], list[ShellWord]] = Field(
        description="Commands on PATH: name to environment, program and fixed arguments"
    )
    kernels: list[Name] = Field(description="Environments that are Jupyter kernels")
    vllm: Service
    gates: FrameworkGates

    @model_validator(mode="after")
    def _known(self) -> "Frameworks":
        named = {*self.checks, *self.kernels, *(words[0] for words in self.commands.values() if words)}
        if self.vllm.environment:
            named.add(self.vllm.environment)
        unknown = sorted(named - set(self.environments))
        if unknown:
            raise ValueError(f"no such environment: {', '.join(unknown)}: add it to environments")
        for command, words in self.commands.items():
            if len(words) < 2:
                raise ValueError(f"command {command} needs an environment and a program")
        for kernel in self.kernels:
            if not any(wanted.startswith("ipykernel") for wanted in self.environments[kernel].requirements):
                raise ValueError(f"Jupyter kernel {kernel}: its environment does not require ipykernel: add it")
        if self.vllm.enabled and not self.vllm.environment:
            raise ValueError("vllm:enabled is true and vllm:environment is null: name an environment")
        return self
