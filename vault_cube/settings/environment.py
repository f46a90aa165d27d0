"""A Python environment, which uv creates from a lock with hashes, `locks/<target>/python-<name>.lock`."""

from pydantic import Field

from vault_cube.settings.strict import Section


class Environment(Section):
    """A Python environment; `image.lock` resolves it to exact versions and hashes."""

    requirements: list[str] = Field(min_length=1, description="Requirement specifiers (PEP 508)")
    overrides: list[str] = Field(description="Requirement specifiers that replace what packages themselves require")
    excluded: list[str] = Field(description="Packages to leave out although another package requires them")
