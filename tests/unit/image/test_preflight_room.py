"""The disk space that a build needs: less if its layers are in the cache."""

from types import SimpleNamespace

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight
from vault_cube.image.attest import finished
from vault_cube.image.cache import layer_cache
from vault_cube.image.store import Store

GIB = 1 << 30


@pytest.fixture
def free(monkeypatch):
    """free(gib) makes every disk report this much free space."""

    def make(gib):
        monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=gib * GIB))

    return make


def test_cached_layers_need_no_more_space(workspace, free, monkeypatch):
    space = workspace()
    free(12)
    with pytest.raises(
        VaultCubeError,
        match=r" GB needed, .* GB of it for downloads, 12\.9 GB free: make room, or set VAULT_CUBE_CACHE",
    ):
        preflight.has_room(preflight.Builder(space))
    monkeypatch.setattr(layer_cache, "find", lambda *_: object())
    assert preflight.has_room(preflight.Builder(space)).startswith("12.9 GB free, ")


def test_a_nearly_full_disk_is_refused_even_if_all_layers_are_cached(workspace, free, monkeypatch):
    monkeypatch.setattr(layer_cache, "find", lambda *_: object())
    free(1)
    with pytest.raises(VaultCubeError, match=r"1\.1 GB free"):
        preflight.has_room(preflight.Builder(workspace()))


def test_the_boot_test_alone_needs_no_room(workspace, free, monkeypatch):
    monkeypatch.setattr(layer_cache, "find", lambda *_: object())
    monkeypatch.setattr(finished, "unproven", lambda *_: {"name": "image"})
    monkeypatch.setattr(Store, "has", lambda *_: True)
    free(0)
    assert preflight.has_room(preflight.Builder(workspace())) == (
        "0.0 GB free, 0.0 GB needed, 0.0 GB of it for downloads"
    )
