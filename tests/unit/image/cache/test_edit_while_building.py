"""A layer whose inputs are edited while it is built is removed, because its key may not match its content."""

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import recipe
from vault_cube.image.cache import keys, layer_cache


@pytest.fixture
def edited(tmp_path):
    """edited(**after) builds a layer and then changes its inputs to `after`; returns the entry and the check."""
    before = {"parent": "1", "salt/base/init.sls": "a", "vault_cube/image/layers/seal.py": "b"}
    key = keys.Key("0" * 64, before)

    def make(**after):
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "file").write_text("x")
        entry = layer_cache.keep(tmp_path / "layers", key.key, tree, "base", before)
        now = keys.Key("1" * 64, before | after)
        return entry, lambda: recipe.of_its_key("base", key, now, entry)

    return make


def test_a_layer_with_unchanged_inputs_stays(edited):
    entry, check = edited()
    assert check() is entry
    assert entry.tree.is_dir()


def test_edits_to_the_builder_itself_are_ignored(edited):
    entry, check = edited(**{"vault_cube/image/layers/seal.py": "c", "parent": "2"})
    assert check() is entry


@pytest.mark.parametrize("path", ["salt/base/init.sls", "salt/base/new.sls"])
def test_an_edited_state_removes_the_layer(edited, path):
    entry, check = edited(**{path: "z"})
    with pytest.raises(VaultCubeError, match=f"layer base: {path} changed while the layer was built"):
        check()
    assert not entry.folder.exists()
