"""Fixtures that several of these tests use."""

import pytest
from base_tree import waited, workspace

from vault_cube.image import recipe
from vault_cube.image.inputs import Inputs
from vault_cube.image.layers import tools


@pytest.fixture(scope="session")
def space():
    """A workspace whose tools tree is finished."""
    target_space = workspace()
    if waited(lambda: tools.find(target_space)) is None:
        with target_space.exclusive():
            recipe.make_fetch(target_space)
            recipe.make_tools(target_space, Inputs.read(target_space))
    return target_space
