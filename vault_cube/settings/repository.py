"""A vendor's apt repository, as a deb822 source, the key it must be signed with, and what may come from it."""

from typing import Annotated

from pydantic import Field, model_validator

from vault_cube.settings.strict import HttpUrl, Section, Sha256

Fingerprint = Annotated[str, Field(pattern=r"^[0-9A-F]{40}$", description="OpenPGP fingerprint of the primary key")]


class Keyring(Section):
    """The signing key: the fingerprint decides; the bytes are fetched, never kept in the tree."""

    url: HttpUrl = Field(description="where the vendor publishes the key")
    sha256: Sha256 | None = Field(description="sha256 of the published file; null: the fingerprint alone decides")
    fingerprint: Fingerprint


class Pin(Section):
    """Which packages the repository may give; everything else in it is refused (priority -1)."""

    packages: list[str] = Field(min_length=1, description="package names, globs as apt_preferences(5) has them")
    version: str | None = Field(description="exact version to stay at while a newer one is there; null: the newest")
    origin: str = Field(description="host name of the repository, as apt's `origin` pin matches it; empty: a local one")


class Repository(Section):
    """`/etc/apt/sources.list.d/<name>.sources` and `/etc/apt/preferences.d/<name>`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    uri: Annotated[str, Field(pattern=r"^(https?|file)://[^\s@]*$")]
    suite: str = Field(description="suite; a flat repository ends in a slash")
    components: list[str]
    keyring: Keyring
    pin: Pin

    @model_validator(mode="after")
    def _flat_or_not(self) -> "Repository":
        if self.suite.endswith("/") == bool(self.components):
            raise ValueError("a flat repository (suite ends in a slash) has no components, any other has some")
        return self
