"""The steps of `recipe.make_disk`, with a small raw disk in place of one that the tools tree makes."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from vault_cube.drift.manifest import PLACE
from vault_cube.image import recipe, store
from vault_cube.image.attest import attestations, finished
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.inputs import Inputs
from vault_cube.image.workspace import default_cache

RAW = b"a small disk" * 100_000


@pytest.fixture
def space(workspace, monkeypatch, tmp_path):
    """A workspace whose layers are built and whose disk has the content RAW."""
    layer_keys = {name: keys.Key(f"key of {name}", {"parent": "tools"}) for name in keys.ORDER}
    (tmp_path / "layer" / PLACE).parent.mkdir(parents=True)
    (tmp_path / "layer" / PLACE).write_bytes(b"manifest of the files")
    layers = [SimpleNamespace(meta={"bytes": 1}, lines=list, tree=tmp_path / "layer") for _ in keys.ORDER]
    monkeypatch.setattr(keys, "layer_keys", lambda *_: layer_keys)
    monkeypatch.setattr(recipe, "make_layers", lambda *_: layers)
    monkeypatch.setattr(layer_cache, "sound", lambda entry: entry)
    monkeypatch.setattr(recipe.raw_disk, "make", make_raw_disk)
    monkeypatch.setattr(attestations, "make", lambda *_, **__: [])
    return workspace()


def make_raw_disk(space, _entries, _epoch, folder):
    space.logs.mkdir(parents=True, exist_ok=True)
    (folder / "disk.raw").write_bytes(RAW)


def test_the_image_folder_has_all_formats_and_a_manifest_with_their_digests(space):
    old = space.build / "image/old.qcow2"
    old.parent.mkdir(parents=True)
    old.touch()
    manifest = recipe.make_disk(space, Inputs.read(space))
    folder, name = space.build / "image", finished.basename(space)
    files = {f"{name}.{form}" for form in space.settings.image.formats} | {f"{name}.files.gz"}
    assert {file.name for file in folder.iterdir()} == files | {f"{name}.manifest.json"}
    assert set(manifest["files"]) == files
    for file, entry in manifest["files"].items():
        assert entry == {"sha256": store.sha256_of(folder / file), "bytes": (folder / file).stat().st_size}
    assert manifest["raw_sha256"] == hashlib.sha256(RAW).hexdigest()
    assert json.loads((folder / f"{name}.manifest.json").read_text()) == manifest
    assert set(recipe.read_times(recipe.times_file(space))) == {"disk", "formats", "attestations"}
    assert not list((space.cache / "work").iterdir())


def test_an_image_that_is_up_to_date_is_not_made_again(space, monkeypatch, capsys):
    manifest = recipe.make_disk(space, Inputs.read(space))
    monkeypatch.setattr(recipe, "make_layers", lambda *_: pytest.fail("the layers were made again"))
    assert recipe.make_disk(space, Inputs.read(space)) == manifest
    assert "is up to date; nothing to do" in capsys.readouterr().err


def test_formats_of_other_hypervisors_are_written_beside_qcow2(space, monkeypatch):
    trees = [file.parents[2] for file in default_cache().glob("layers/*/tree/usr/bin/qemu-img")]
    if not trees:
        pytest.skip("no tools tree in the cache")
    monkeypatch.setattr(recipe.tools, "tree", lambda _: trees[0])
    image = space.settings.image.model_copy(update={"formats": ["ova", "qcow2", "vhdx", "vmdk"]})
    space = replace(space, settings=space.settings.model_copy(update={"image": image}))
    manifest = recipe.make_disk(space, Inputs.read(space))
    name = finished.basename(space)
    assert set(manifest["files"]) == {f"{name}.{form}" for form in image.formats} | {f"{name}.files.gz"}
    for file, entry in manifest["files"].items():
        assert entry["sha256"] == store.sha256_of(space.build / "image" / file)
