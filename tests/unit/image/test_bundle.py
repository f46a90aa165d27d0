"""The contents of a bundle, and their use by the Makefile and scripts; small files stand for packages and wheels."""

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


def test_build_requirements_come_from_the_pyproject_file_at_the_top_of_an_archive(tmp_path):
    text = '[build-system]\nrequires = ["setuptools>=64", "wheel"]\n'
    files = {"x-1/deep/pyproject.toml": "[build-system]\nrequires = ['no']\n", "x-1/pyproject.toml": text}
    assert bundle.build_requirements(archive(tmp_path / "x-1.tar.gz", files)) == ["setuptools>=64", "wheel"]
    assert bundle.build_requirements(archive(tmp_path / "y-1.tar.gz", {"y-1/setup.py": ""})) == ["setuptools", "wheel"]
    assert bundle.build_requirements(archive(tmp_path / "z-1.tar.gz", {"z-1/pyproject.toml": ""})) == []


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """apt(text, status) puts a fake apt-get on PATH that prints `text` and exits with `status`."""

    def make(text, status=0):
        tool = tmp_path / "bin/apt-get"
        tool.parent.mkdir()
        (tmp_path / "output").write_text(text)
        tool.write_text(
            f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat {tmp_path}/output >&{1 + bool(status)}\nexit {status}\n'
        )
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")

    return make


def test_packages_are_resolved_as_if_nothing_were_installed(apt, tmp_path):
    apt(
        "'http://mirror.example/debian/pool/main/g/gcc-12/gcc-12-base_12.2.0-14%2bdeb12u1_amd64.deb' "
        f"gcc-12-base_12.2.0-14+deb12u1_amd64.deb 37596 SHA256:{'1' * 64}\n"
        f"'http://mirror.example/e/epoch_1%253a2_all.deb' epoch_1%3a2_all.deb 5 SHA256:{'2' * 64}\n"
    )
    (gcc, wanted), (epoch, _) = bundle.debs(["packer"])
    arguments = (tmp_path / "arguments").read_text()
    assert "-oDir::State::status=/dev/null" in arguments
    assert "-oDir::Cache::archives=/" in arguments
    assert (gcc.name, gcc.version, gcc.architecture, gcc.size) == ("gcc-12-base", "12.2.0-14+deb12u1", "amd64", 37596)
    assert (epoch.version, epoch.filename) == ("1:2", "epoch_1%3a2_all.deb")
    assert wanted.places == (
        "http://mirror.example/debian/pool/main/g/gcc-12/gcc-12-base_12.2.0-14%2bdeb12u1_amd64.deb",
    )
    assert (wanted.sha256, wanted.size) == ("1" * 64, 37596)


@pytest.mark.parametrize(("text", "status", "message"), [
    ("E: Unable to locate package packr\nmore", 100, "cannot resolve packr .*Unable to locate package packr$"),
    ("nonsense\n", 0, "cannot read «nonsense»"),
])  # fmt: skip
def test_a_failure_of_apt_is_an_error_of_one_line(apt, text, status, message):
    apt(text, status)
    with pytest.raises(VaultCubeError, match=message) as error:
        bundle.debs(["packr"])
    assert "\n" not in str(error.value)


def test_the_archive_has_the_same_bytes_for_any_modes_times_and_file_order(tmp_path):
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
        assert {(member.uid, member.gid, member.mtime) for member in packed} == {(0, 0, 1_700_000_000)}
        assert all(member.isfile() for member in packed if member.name != "checkout")
    assert digests[0] == digests[1]


def test_a_failed_tar_leaves_no_incomplete_archive(tmp_path):
    with pytest.raises(VaultCubeError, match=r"b\.tar: tar failed"):
        bundle.pack(tmp_path / "nowhere", tmp_path / "b.tar", 0)
    assert not (tmp_path / "b.tar").exists()


@pytest.fixture
def unpacked(tmp_path):
    """An unpacked bundle with an empty package repository and a lock whose hash is wrong."""
    top = tmp_path / "an unpacked bundle"
    shutil.copytree(TOP / "scripts", top / "scripts")
    (top / "carried/debs").mkdir(parents=True)
    (top / "locks").mkdir()
    (top / "locks/checkout.lock").write_text("uv==0 --hash=sha256:00\n")
    return top


def test_a_bundle_for_another_release_fails_before_anything_is_installed(unpacked):
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
    arguments = (tmp_path / "arguments").read_text()
    assert f"install -y --no-install-recommends {missing}" in arguments
    assert "Dir::Etc::SourceParts=/dev/null" in arguments
    shutil.rmtree(unpacked / "carried/debs")
    subprocess.run(["scripts/apt.sh", missing], cwd=unpacked, check=True)
    assert "Dir::Etc" not in (tmp_path / "arguments").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="apt needs root")
@pytest.mark.parametrize("folder", ["a bundle", "100% blank", "[1]"])
def test_apt_finds_the_carried_packages_in_any_folder(unpacked, tmp_path, folder):
    top = unpacked.rename(tmp_path / folder)
    (top / "carried/debs/Packages").touch()
    ran = subprocess.run(["scripts/apt.sh", "surely-no-such"], cwd=top, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "make: apt-get cannot install surely-no-such: Unable to locate package" in ran.stderr
    (top / "carried/debs/Packages").unlink()
    ran = subprocess.run(["scripts/apt.sh", "surely-no-such"], cwd=top, capture_output=True, text=True, check=False)
    assert "make: apt-get cannot install surely-no-such: " in ran.stderr
    assert len(ran.stderr.splitlines()) == 2


def test_make_in_an_unpacked_bundle_uses_its_store(tmp_path):
    shutil.copy(TOP / "Makefile", tmp_path)
    show = "include Makefile\nshow:\n\t@echo $$VAULT_CUBE_CACHE\n"
    (tmp_path / "show.mk").write_text(show)
    environment = {"PATH": os.environ["PATH"]}
    command = ["make", "-s", "-f", "show.mk", "show"]
    caches = [subprocess.check_output(command, cwd=tmp_path, env=environment, text=True).strip()]
    (tmp_path / "carried/store").mkdir(parents=True)
    caches.append(subprocess.check_output(command, cwd=tmp_path, env=environment, text=True).strip())
    environment["VAULT_CUBE_CACHE"] = "/elsewhere"
    caches.append(subprocess.check_output(command, cwd=tmp_path, env=environment, text=True).strip())
    assert caches == ["", f"{tmp_path}/carried", "/elsewhere"]
