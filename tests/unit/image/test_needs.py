"""Download size and disk space of a target, from the sizes in its locks."""

import hashlib

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import needs
from vault_cube.image.attest import finished, manifest
from vault_cube.image.cache import layer_cache
from vault_cube.image.inputs import Inputs
from vault_cube.image.layers import tools
from vault_cube.image.locks import pylock
from vault_cube.image.locks.aptlock import AptLock, Deb
from vault_cube.image.store import Store

MB = 10**6


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def deb(name, size, layer="root"):
    return Deb(layer, name, "1", "amd64", "bookworm", "debian", size, sha(name), f"pool/{name}.deb")


@pytest.fixture
def space(workspace):
    """A target with 10 MB of packages, 5 MB of tools, and wheels of 30 and 60 MB in every environment."""
    target = workspace("debian-12")
    (target.locks / "apt.lock").write_text(AptLock(1, (deb("a", 4 * MB), deb("b", 6 * MB, "base"))).text())
    target.tools_lock.write_text(AptLock(1, (deb("t", 5 * MB, tools.LAYER),)).text())
    wheels = [
        pylock.Wheel(name, "1", sha(name), f"{name}.whl", size) for name, size in (("x", 30 * MB), ("y", 60 * MB))
    ]
    for name in ("salt", *target.settings.frameworks.environments):
        (target.locks / f"python-{name}.lock").write_text(pylock.text(wheels))
    return target


def test_a_file_of_several_environments_is_downloaded_once(space):
    needed = needs.of(space, Inputs.read(space))
    assert needed.locked == needed.download == (10 + 5 + 90) * MB


def test_a_stored_file_is_not_downloaded(space):
    path = Store(space.store).path(sha("y"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    needed = needs.of(space, Inputs.read(space))
    assert (needed.locked, needed.download) == (105 * MB, 45 * MB)


def test_disk_space_covers_downloads_layers_the_disk_its_formats_and_the_tools(space):
    tree, formats = 10 * 4 + 90 * 4.8, 2 * (10 + 90) * 1.3
    assert needs.of(space, Inputs.read(space)).disk == pytest.approx((105 + 2 * tree + formats + 5 * 4) * MB)


TREE, FORMATS = 10 * 4 + 90 * 4.8, 2 * (10 + 90) * 1.3


def test_cached_layers_and_tools_need_no_more_space(space, monkeypatch):
    monkeypatch.setattr(layer_cache, "find", lambda *_: object())
    assert needs.of(space, Inputs.read(space)).disk == pytest.approx((105 + TREE + FORMATS) * MB)


@pytest.mark.parametrize(("cached", "missing"), [
    # with the root tree: 4 MB of packages, and both wheels in Salt's environment
    (["root"], 6 * 4), (["root", "base"], 0), (["root", "base", "driver", "runtime"], 0),
    (["base"], 4 * 4 + 90 * 4.8), ([], 10 * 4 + 90 * 4.8),
])  # fmt: skip
def test_only_missing_layers_need_space(space, monkeypatch, cached, missing):
    inputs = Inputs.read(space)
    known = {inputs.keys[name].key for name in cached} | {inputs.tools_key}
    monkeypatch.setattr(layer_cache, "find", lambda _layers, key: object() if key in known else None)
    assert needs.of(space, inputs).disk == pytest.approx((105 + missing + TREE + FORMATS) * MB)


def test_wheels_of_a_framework_need_space_with_their_layer(space, monkeypatch):
    wheels = [pylock.Wheel(name, "1", sha(name), f"{name}.whl", size) for name, size in (("z", 7 * MB), ("x", 30 * MB))]
    (space.locks / "python-vllm.lock").write_text(pylock.text(wheels))
    inputs = Inputs.read(space)
    known = {key.key for name, key in inputs.keys.items() if name not in ("frameworks", "validation")}
    monkeypatch.setattr(layer_cache, "find", lambda _layers, key: object() if key in known else None)
    whole = needs.of(space, inputs).disk
    monkeypatch.setattr(layer_cache, "find", lambda *_: object())
    # x is in the tree already, and the tools are missing in the first case
    assert whole - needs.of(space, inputs).disk == pytest.approx((7 * 4.8 + 5 * 4) * MB)


@pytest.mark.parametrize("where", ["build", "dist"])
def test_a_finished_image_needs_no_space_for_its_disk(space, monkeypatch, where):
    inputs = Inputs.read(space)
    folder = space.dist if where == "dist" else space.build / "image"
    folder.mkdir(parents=True)
    name = finished.basename(space)
    (folder / f"{name}.qcow2").write_bytes(b"disk")
    image = {
        "name": name, "key": finished.image_key(space, inputs), "moved": [],
        "files": {f"{name}.qcow2": manifest.described(folder / f"{name}.qcow2")},
    }  # fmt: skip
    manifest.write(folder, image)
    monkeypatch.setattr(layer_cache, "find", lambda *_: object())
    monkeypatch.setattr(Store, "has", lambda *_: True)
    needed = needs.of(space, inputs)
    assert (needed.download, needed.disk) == (0, 0)
    # an image of another key, and a damaged one, are made again
    (folder / f"{name}.qcow2").write_bytes(b"shorter or longer")
    assert needs.of(space, inputs).disk == pytest.approx((TREE + FORMATS) * MB)
    (folder / f"{name}.qcow2").write_bytes(b"disk")
    manifest.write(folder, {**image, "key": "other"})
    assert needs.of(space, inputs).disk == pytest.approx((TREE + FORMATS) * MB)


def test_missing_files_and_tools_need_space_also_for_a_finished_image(space, monkeypatch):
    monkeypatch.setattr(finished, "unproven", lambda *_: {"name": "image"})
    inputs = Inputs.read(space)
    known = {key.key for key in inputs.keys.values()}
    monkeypatch.setattr(layer_cache, "find", lambda _layers, key: object() if key in known else None)
    assert needs.of(space, inputs).disk == pytest.approx((105 + 5 * 4) * MB)


def test_a_missing_lock_is_reported_by_name(space):
    (space.locks / "python-vllm.lock").unlink()
    with pytest.raises(VaultCubeError, match=r"python-vllm\.lock: this lock does not exist yet"):
        Inputs.read(space)


@pytest.mark.parametrize(
    ("target", "download", "disk"),
    [("debian-12", (1.2, 1.4), (12, 20)), ("debian-13", (0.5, 0.8), (5, 15))],
)
def test_the_estimates_for_the_committed_locks_are_close_to_the_measurements(workspace, target, download, disk):
    """debian-12: twice 5.4 GB of tree, 2.9 GB of packed formats, 1.3 GB of downloads."""
    space = workspace(target)
    needed = needs.of(space, Inputs.read(space))
    assert download[0] < needed.download / 1e9 < download[1]
    assert disk[0] < needed.disk / 1e9 < disk[1]


def test_a_size_is_formatted_in_gigabytes():
    assert needs.gigabytes(7_460_000_000) == "7.5 GB"
