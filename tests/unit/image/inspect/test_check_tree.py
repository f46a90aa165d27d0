"""`image.check … root=`: the mounted disk of a box against the manifest beside the image."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path

import pytest

from vault_cube import tree_manifest
from vault_cube.drift import manifest
from vault_cube.errors import VaultCubeError
from vault_cube.image.inspect import check
from vault_cube.image.layers import image_manifest


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the manifest of the tree `tmp_path/box`, beside a checksum file."""
    tree = tmp_path / "box"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/x").write_text("x")
    merged = image_manifest.merge([tree], [tree_manifest.parse(tree_manifest.entries(tree))])
    header: manifest.Header = {
        "format": 1, "name": "box", "version": "1", "target": "t", "epoch": 1, "layers": ["root"], "cmdline": "",
        "packages": {}, "tables": {}, "expected": {"/etc/machine-id": "made at first boot"}, "listen": [],
        "states": {}, "signers": [],
    }  # fmt: skip
    file = tmp_path / "box-1.files.gz"
    file.write_bytes(gzip.compress(manifest.text(header, merged.values()).encode()))
    (tmp_path / "box-1.SHA256SUMS").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    monkeypatch.setattr(check, "_provenance", lambda *_: "provenance: of the test")
    return file


def test_an_unchanged_disk_is_accepted_with_what_is_expected(image: Path) -> None:
    (image.parent / "box/etc/machine-id").write_text("0123")
    assert check.check(image, root=image.parent / "box")[-1].endswith("no drift; 1 expected")


def test_each_difference_is_a_line(image: Path) -> None:
    (image.parent / "box/etc/x").write_text("y")
    (image.parent / "box/etc/evil").write_text("y")
    with pytest.raises(VaultCubeError) as caught:
        check.check(image, root=image.parent / "box")
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("2 differences")
    assert lines[1].startswith("/etc/evil: file is not in the image")
    assert lines[2] == "/etc/x: content"


def test_a_manifest_that_the_disk_itself_carries_is_not_used(image: Path) -> None:
    home = image.parent / "box" / manifest.HOME
    home.mkdir(parents=True)
    shutil.copy(image, home / "manifest.gz")
    with pytest.raises(VaultCubeError, match="/usr"):
        check.check(image, root=image.parent / "box")


def test_a_changed_manifest_is_refused(image: Path) -> None:
    image.write_bytes(image.read_bytes() + b" ")
    with pytest.raises(VaultCubeError, match=r"differs from box-1\.SHA256SUMS"):
        check.check(image, root=image.parent / "box")


def test_a_folder_that_is_no_root_file_system_is_named(image: Path) -> None:
    with pytest.raises(VaultCubeError, match="no root file system"):
        check.check(image, root=image.parent / "nothing")


def test_an_image_without_a_manifest_beside_it_is_named(image: Path) -> None:
    qcow2 = image.with_name("box-1.qcow2")
    qcow2.write_bytes(b"disk")
    sums = image.with_name("box-1.SHA256SUMS")
    sums.write_text(f"{hashlib.sha256(b'disk').hexdigest()}  {qcow2.name}\n")
    with pytest.raises(VaultCubeError, match=r"no \.files\.gz beside the image"):
        check.check(qcow2, root=image.parent / "box")
