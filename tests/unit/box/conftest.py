"""A fixture for the merged pillar of a target."""

from pathlib import Path

import pytest
from copied import chosen, merged

TOP = Path(__file__).parents[3]


@pytest.fixture
def pillar():
    """pillar(target, {section: {key: value}}) returns a target's pillar with changes."""

    def make(target, changes=None):
        return merged(*chosen(target), changes or {})

    return make
