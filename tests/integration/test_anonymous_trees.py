"""The root tree and the tools tree contain nothing of the builder's machine; the first layer would only hide it."""

import os

import pytest
from base_tree import root_tree, workspace

from vault_cube.image.layers import tools

pytestmark = [
    pytest.mark.chroot,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a root tree: needs root"),
]


@pytest.fixture(scope="module")
def trees():
    space = workspace()
    return {"root": root_tree(space), "tools": tools.tree(space)}


@pytest.mark.parametrize("name", ["root", "tools"])
def test_a_tree_has_no_host_name_and_no_resolver_of_the_builder(trees, name):
    etc = trees[name] / "etc"
    assert not [file for file in ("resolv.conf", "hostname") if os.path.lexists(etc / file)]
    assert (etc / "apt/sources.list").read_text() == ""
