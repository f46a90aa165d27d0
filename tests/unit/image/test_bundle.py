"""What a bundle carries and how the Makefile's scripts use it; small files stand for packages and wheels."""

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import bundle

TOP = Path(__file__).parents[3]


def archive(file, files):
    with tarfile.open(file, "w:gz") as out:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            out.addfile(info, io.BytesIO(text.encode()))
    return file


def test_a_source_archive_says_what_its_build_needs(tmp_path):
    text = '[build-system]\nrequires = ["setuptools>=64", "wheel"]\n'
    files = {"x-1/deep/pyproject.toml": "[build-system]\nrequires = ['no']\n", "x-1/pyproject.toml": text}
    assert bundle.build_requirements(archive(tmp_path / "x-1.tar.gz", files)) == ["setuptools>=64", "wheel"]
    assert bundle.build_requirements(archive(tmp_path / "y-1.tar.gz", {"y-1/setup.py": ""})) == ["setuptools", "wheel"]
    assert bundle.build_requirements(archive(tmp_path / "z-1.tar.gz", {"z-1/pyproject.toml": ""})) == []


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """apt(text, status) makes an apt-get that prints a text."""

    def make(text, status=0):
        tool = tmp_path / "bin/apt-get"
        tool.parent.mkdir()
        (tmp_path / "said").write_text(text)
        tool.write_text(
            f'#!/bin/sh\necho "$@" >{tmp_path}/asked\ncat {tmp_path}/said >&{1 + bool(status)}\nexit {status}\n'
        )
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")

    return make


def test_apt_is_asked_for_everything_as_on_an_empty_machine(apt, tmp_path):
    apt(
        "'http://mirror.example/debian/pool/main/g/gcc-12/gcc-12-base_12.2.0-14%2bdeb12u1_amd64.deb' "
        f"gcc-12-base_12.2.0-14+deb12u1_amd64.deb 37596 SHA256:{'1' * 64}\n"
        f"'http://mirror.example/e/epoch_1%253a2_all.deb' epoch_1%3a2_all.deb 5 SHA256:{'2' * 64}\n"
    )
    (one, wanted), (two, _) = bundle.debs(["packer"])
    asked = (tmp_path / "asked").read_text()
    assert "-oDir::State::status=/dev/null" in asked
    assert "-oDir::Cache::archives=/" in asked
    assert (one.name, one.version, one.architecture, one.size) == ("gcc-12-base", "12.2.0-14+deb12u1", "amd64", 37596)
    assert (two.version, two.filename) == ("1:2", "epoch_1%3a2_all.deb")
    assert wanted.places == (
        "http://mirror.example/debian/pool/main/g/gcc-12/gcc-12-base_12.2.0-14%2bdeb12u1_amd64.deb",
    )
    assert (wanted.sha256, wanted.size) == ("1" * 64, 37596)


@pytest.mark.parametrize(("text", "status", "says"), [
    ("E: Unable to locate package packr\nmore", 100, "cannot resolve packr .*Unable to locate package packr$"),
    ("nonsense\n", 0, "cannot read «nonsense»"),
])  # fmt: skip
def test_what_apt_cannot_do_is_one_line(apt, text, status, says):
    apt(text, status)
    with pytest.raises(VaultCubeError, match=says) as said:
        bundle.debs(["packr"])
    assert "\n" not in str(said.value)


def test_the_archive_is_the_same_bytes_whoever_packs_it(tmp_path):
    digests = []
    for number, names in enumerate((("a", "b"), ("b", "a"))):
        top = tmp_path / str(number) / "checkout"
        top.mkdir(parents=True)
        for name in names:
            (top / name).write_text(name)
        os.link(top / "a", top / "linked")
        (top / "a").chmod(0o640 if number else 0o444)
        os.utime(top / "a", (number, number))
        bundle.pack(top, tmp_path / f"{number}.tar", 1_700_000_000)
        digests.append((tmp_path / f"{number}.tar").read_bytes())
    with tarfile.open(tmp_path / "0.tar") as packed:
        assert packed.getnames() == ["checkout", "checkout/a", "checkout/b", "checkout/linked"]
        assert {(one.uid, one.gid, one.mtime) for one in packed} == {(0, 0, 1_700_000_000)}
        assert all(one.isfile() for one in packed if one.name != "checkout")
    assert digests[0] == digests[1]


def test_what_cannot_be_packed_leaves_no_half_archive(tmp_path):
    with pytest.raises(VaultCubeError, match=r"b\.tar: tar failed"):
        bundle.pack(tmp_path / "nowhere", tmp_path / "b.tar", 0)
    assert not (tmp_path / "b.tar").exists()


@pytest.fixture
def unpacked(tmp_path):
    """A checkout with carried packages and wheels that are none."""
    top = tmp_path / "unpacked"
    shutil.copytree(TOP / "scripts", top / "scripts")
    (top / "carried/debs").mkdir(parents=True)
    (top / "locks").mkdir()
    (top / "locks/checkout.lock").write_text("uv==0 --hash=sha256:00\n")
    return top


def test_another_release_is_told_before_anything_is_made(unpacked):
    (unpacked / "carried/machine").write_text("woody 2.1\n")
    ran = subprocess.run(["scripts/venv.sh", ".venv"], cwd=unpacked, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("make: this bundle was made for woody 2.1, this machine is ")
    assert not (unpacked / ".venv").exists()


def test_carried_packages_are_installed_from_their_own_repository(unpacked, apt, tmp_path, monkeypatch):
    apt("")
    missing = "surely-no-such-package"
    if os.geteuid():
        identity = tmp_path / "bin/id"
        identity.write_text("#!/bin/sh\necho 0\n")
        identity.chmod(0o755)
    subprocess.run(["scripts/apt.sh", missing], cwd=unpacked, check=True)
    asked = (tmp_path / "asked").read_text()
    assert f"install -y --no-install-recommends {missing}" in asked
    assert "Dir::Etc::SourceParts=/dev/null" in asked
    shutil.rmtree(unpacked / "carried/debs")
    subprocess.run(["scripts/apt.sh", missing], cwd=unpacked, check=True)
    assert "Dir::Etc" not in (tmp_path / "asked").read_text()


def test_make_in_an_unpacked_bundle_uses_its_store(tmp_path):
    shutil.copy(TOP / "Makefile", tmp_path)
    show = "include Makefile\nshow:\n\t@echo $$VAULT_CUBE_CACHE\n"
    (tmp_path / "show.mk").write_text(show)
    environment = {"PATH": os.environ["PATH"]}
    command = ["make", "-s", "-f", "show.mk", "show"]
    said = [subprocess.check_output(command, cwd=tmp_path, env=environment, text=True).strip()]
    (tmp_path / "carried/store").mkdir(parents=True)
    said.append(subprocess.check_output(command, cwd=tmp_path, env=environment, text=True).strip())
    environment["VAULT_CUBE_CACHE"] = "/elsewhere"
    said.append(subprocess.check_output(command, cwd=tmp_path, env=environment, text=True).strip())
    assert said == ["", f"{tmp_path}/carried", "/elsewhere"]
