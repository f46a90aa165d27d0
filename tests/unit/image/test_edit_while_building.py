"""A layer whose files are edited while it is built is not kept: its key would promise another content."""

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import recipe
from vault_cube.image.cache import keys, layer_cache


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """edited(after) asks for a fresh layer whose key inputs read `after` once it is made: (entry, the call)."""
    before = {"parent": "1", "salt/base/init.sls": "a", "vault_cube/image/layers/seal.py": "b"}
    key = keys.Key("0" * 64, before)

    def make(**after):
        tree = tmp_path / "made"
        tree.mkdir()
        (tree / "file").write_text("x")
        entry = layer_cache.keep(tmp_path / "layers", key.key, tree, "base", before)
        monkeypatch.setattr(keys, "layer_keys", lambda _: {"base": keys.Key("1" * 64, before | after)})
        return entry, lambda: recipe._of_its_key(None, "base", key, entry)

    return make


def test_what_nobody_touched_is_kept(edited):
    entry, ask = edited()
    assert ask() is entry
    assert entry.tree.is_dir()


def test_the_builder_s_own_files_may_change(edited):
    entry, ask = edited(**{"vault_cube/image/layers/seal.py": "c", "parent": "2"})
    assert ask() is entry


@pytest.mark.parametrize("path", ["salt/base/init.sls", "salt/base/new.sls"])
def test_an_edited_state_drops_the_layer(edited, path):
    entry, ask = edited(**{path: "z"})
    with pytest.raises(VaultCubeError, match=f"layer base: {path} changed while the layer was built"):
        ask()
    assert not entry.folder.exists()
