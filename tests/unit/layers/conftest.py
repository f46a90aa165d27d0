"""The merged pillar of a target, as Salt would merge it."""

from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[3]


def merged(*parts):
    """Recursive merge, lists replace."""
    out = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(out.get(key), dict)
            out[key] = merged(out[key], value) if both else value
    return out


@pytest.fixture
def pillar():
    """pillar(target, {section: {key: value}}) gives a target's pillar with changes."""

    def make(target, changes=None):
        files = [TOP / "pillar/box.sls", TOP / "pillar/targets" / f"{target}.sls"]
        return merged(*(yaml.safe_load(file.read_text()) for file in files), changes or {})

    return make
