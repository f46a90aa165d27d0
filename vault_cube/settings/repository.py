"""A vendor's apt repository: its deb822 source, its signing key, and the packages that may come from it."""

from typing import Annotated

from pydantic import Field, model_validator

from vault_cube.settings.strict import HttpUrl, Section, Sha256

OneWord = Annotated[str, Field(pattern=r"^\S+$")]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9A-F]{40}$", description="OpenPGP fingerprint of the primary key")]


class Keyring(Section):
    """The signing key, which is fetched and must have this fingerprint."""

    url: HttpUrl = Field(description="URL at which the vendor publishes the key")
    sha256: Sha256 | None = Field(description="SHA-256 of the published file; null: only the fingerprint is checked")
    fingerprint: Fingerprint


class Pin(Section):
    """The packages that may come from the repository; all others have apt priority -1."""

    packages: list[OneWord] = Field(min_length=1, description="Package names or globs, as in apt_preferences(5)")
    version: OneWord | None = Field(description="Exact version to stay at; null: the newest")
    origin: str = Field(
        pattern=r"^\S*$", description="Host name that apt's `origin` pin matches; empty: a local repository"
    )


class Repository(Section):
    """An apt repository: `/etc/apt/sources.list.d/<name>.sources` and `/etc/apt/preferences.d/<name>`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", description="Name of the two files below /etc/apt")]
    uri: Annotated[str, Field(pattern=r"^(https?|file)://[^\s@]*$", description="URI of the repository")]
    suite: OneWord = Field(description="Suite; it ends in a slash for a flat repository")
    components: list[OneWord] = Field(description="Components; empty for a flat repository")
    keyring: Keyring
    pin: Pin

    @model_validator(mode="after")
    def _flat_or_not(self) -> "Repository":
        if self.suite.endswith("/") == bool(self.components):
            raise ValueError("components must be empty for a flat repository (suite ends in a slash), else not empty")
        return self
