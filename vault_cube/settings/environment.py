"""A Python environment that uv makes from a hashed lock, `locks/<target>/python-<name>.lock`."""

from pydantic import Field

from vault_cube.settings.strict import Section


class Environment(Section):
    """What goes into an environment; `image.lock` turns it into a lock with every version and hash."""

    requirements: list[str] = Field(min_length=1, description="what is wanted, as requirement specifiers")
    overrides: list[str] = Field(description="versions that win over what packages ask for")
    excluded: list[str] = Field(description="packages that are left out although something asks for them")
