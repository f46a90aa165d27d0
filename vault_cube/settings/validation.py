"""Pillar section `validation`: what the box carries to prove itself."""

from pydantic import Field

from vault_cube.settings.strict import AbsolutePath, PackageName, Section


class Validation(Section):
    """Layer 5; the thresholds of a layer's checks stand in that layer's own `gates`."""

    packages: list[PackageName]
    checkout: AbsolutePath = Field(description="the box's own copy of states, pillar and modules")
    manifest: AbsolutePath = Field(description="name, version and target of the image that the box was made from")
