"""The `salt.loader` entry point: makes the custom modules known to a Salt in the same Python environment."""

from __future__ import annotations

from pathlib import Path


def paths() -> dict[str, list[str]]:
    """Return the folders of custom modules by Salt's name for their type: modules, states, grains, pillar, beacons."""
    installed = Path(__file__).parent / "loaded"
    return {folder.name: [str(folder)] for folder in sorted(installed.glob("*/"))}
