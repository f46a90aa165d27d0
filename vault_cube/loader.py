"""What Salt's loader finds through the `salt.loader` entry point, once this package is installed beside a Salt."""

from __future__ import annotations

from pathlib import Path


def paths() -> dict[str, list[str]]:
    """The folders of custom modules by Salt's name of their kind: modules, states, grains, pillar, beacons."""
    installed = Path(__file__).parent / "loaded"
    return {folder.name: [str(folder)] for folder in sorted(installed.glob("*/"))}
