"""Supplies: a repository of packages, and wheels, copied from the store into a folder."""

import subprocess

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import supplies
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.locks.pylock import Wheel
from vault_cube.image.store import Store, sha256_of


@pytest.fixture
def stored(tmp_path):
    """A store with a package and a wheel, and their lock entries."""
    store = Store(tmp_path / "store")
    control = "Package: tiny\nVersion: 1:1.0\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    (tmp_path / "tiny/DEBIAN").mkdir(parents=True)
    (tmp_path / "tiny/DEBIAN/control").write_text(control)
    file = tmp_path / "tiny.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tmp_path / "tiny", file], check=True, capture_output=True)
    digest = store.add(file.read_bytes())
    assert digest == sha256_of(file)
    size = file.stat().st_size
    deb = Deb("base", "tiny", "1:1.0", "all", "x", "x", size, digest, "pool/tiny_1.0_all.deb")
    wheel = Wheel("alpha", "1.0", store.add(b"a wheel"), "alpha-1.0-py3-none-any.whl", 7)
    return store, [deb], [wheel]


def write(stored, tmp_path, *, wheels=True):
    work = tmp_path / f"work-{len(list(tmp_path.iterdir()))}"
    work.mkdir()
    store, debs, locked = stored
    return supplies.write(store, debs, locked if wheels else [], "trixie", work=work, folder=tmp_path / "stick")


def test_packages_and_wheels_are_copied_with_an_index(stored, tmp_path):
    size = write(stored, tmp_path)
    debs, wheels = tmp_path / "stick/debs", tmp_path / "stick/wheels"
    assert {file.name for file in debs.iterdir()} == {"Packages", "Release", stored[1][0].filename}
    assert f"SHA256: {stored[1][0].sha256}" in (debs / "Packages").read_text()
    assert [file.name for file in wheels.iterdir()] == ["alpha-1.0-py3-none-any.whl"]
    assert size == sum(file.stat().st_size for file in (tmp_path / "stick").rglob("*") if file.is_file())


def test_older_supplies_are_replaced_and_other_files_stay(stored, tmp_path):
    write(stored, tmp_path)
    (tmp_path / "stick/debs/old.deb").touch()
    (tmp_path / "stick/photo.jpg").touch()
    write(stored, tmp_path, wheels=False)
    assert not (tmp_path / "stick/debs/old.deb").exists()
    assert {file.name for file in (tmp_path / "stick").iterdir()} == {"debs", "wheels", "photo.jpg"}


def test_a_folder_that_cannot_be_written_is_an_error_in_one_line(stored, tmp_path):
    (tmp_path / "stick").touch()
    with pytest.raises(VaultCubeError, match=r"stick: .*: mount it, or make room") as raised:
        write(stored, tmp_path)
    assert "\n" not in str(raised.value)
