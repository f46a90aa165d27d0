"""What several of these tests use."""

import pytest
from base_tree import waited, workspace
from copied import checkout  # noqa: F401 a fixture

from vault_cube.image import recipe
from vault_cube.image.layers import tools


@pytest.fixture(scope="session")
def space():
    """A workspace whose tools tree is finished."""
    found = workspace()
    if waited(lambda: tools.find(found)) is None:
        with found.exclusive():
            recipe.make_fetch(found)
            tools.make(found)
    return found
