"""`enter` uses the tree of the checkout's current state, else that of the image in dist/, else it fails."""

import json
import os
from types import SimpleNamespace

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.inside import enter


@pytest.fixture
def space(tmp_path):
    """A workspace whose image in dist/ is of version 1."""
    (tmp_path / "dist").mkdir()
    image = SimpleNamespace(name="box", version="1")
    return SimpleNamespace(
        layers=tmp_path / "layers", dist=tmp_path / "dist", target="debian-12", settings=SimpleNamespace(image=image)
    )


# the layers of the checkout have the keys new-root, new-base, …
WANTED = {name: keys.Key(f"new-{name}", {}) for name in keys.ORDER}


def keep(space, *names):
    for name in names:
        tree = space.layers.parent / "made" / name
        tree.mkdir(parents=True)
        layer_cache.keep(space.layers, name, tree, name, {})


def build_earlier(space):
    keep(space, *(f"old-{name}" for name in keys.ORDER))
    manifest = {"layers": {name: f"old-{name}" for name in keys.ORDER}}
    (space.dist / "box-1-debian-12.manifest.json").write_text(json.dumps(manifest))


def entered(space):
    return [folder.parent.name for folder in enter.tree(space, WANTED)]


def test_the_layers_of_the_checkout_come_bottom_first(space):
    build_earlier(space)
    keep(space, *(f"new-{name}" for name in keys.ORDER))
    assert entered(space) == [f"new-{name}" for name in keys.ORDER]


def test_the_image_in_dist_is_used_if_the_checkout_has_changed(space, capsys):
    build_earlier(space)
    keep(space, "new-root", "new-base")
    assert entered(space) == [f"old-{name}" for name in keys.ORDER]
    assert "the image in dist/" in capsys.readouterr().err


@pytest.mark.parametrize("manifest", [None, "{", '{"layers": {}}', '{"layers": {"root": "gone"}}'])
def test_missing_layers_fail_with_the_command_that_builds_them(space, manifest):
    if manifest:
        (space.dist / "box-1-debian-12.manifest.json").write_text(manifest)
    keep(space, "new-root")
    with pytest.raises(VaultCubeError, match="make image TARGET=debian-12"):
        enter.tree(space, WANTED)


def test_without_root_it_fails_with_the_reason(space, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(VaultCubeError, match="needs root"):
        enter.enter(space, ["true"])
