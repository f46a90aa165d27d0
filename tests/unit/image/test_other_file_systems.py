"""A checkout gives the same keys and statements however it came here, and on a file system without modes or links."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from copied import SOURCES, TOP, chosen, merged

from vault_cube import carried
from vault_cube.errors import VaultCubeError
from vault_cube.image import checkout as of
from vault_cube.image.attest import provenance
from vault_cube.image.attest.finished import image_key
from vault_cube.image.cache import keys
from vault_cube.image.inputs import Inputs
from vault_cube.image.workspace import Workspace
from vault_cube.settings import check

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.autocrlf=false")


def git(top, *arguments):
    return subprocess.run([*GIT, "-C", top, *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with the sources of this checkout in one commit."""
    top = tmp_path_factory.mktemp("repository") / "vault-cube"
    top.mkdir()
    names = [name for name in (*SOURCES, ".gitattributes", ".gitignore", "scripts") if (TOP / name).exists()]
    subprocess.run(["cp", "-r", *(TOP / name for name in names), top], check=True)
    for folder in [*top.rglob("__pycache__")]:
        shutil.rmtree(folder)
    (top / "pillar/local.sls").unlink(missing_ok=True)
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "all")
    return top


def everything(top):
    """Return all keys of a checkout: of the tools tree, the layers and the image."""
    pillar = merged(*chosen("debian-12"))
    space = Workspace(top, check(pillar), pillar, False, top.parent / "cache", top.parent / "store")
    inputs = Inputs.read(space)
    return {
        "tools": keys.tools_key(space).inputs,
        "image": image_key(space, inputs),
        **{name: key.inputs for name, key in inputs.keys.items()},
    }


@pytest.fixture(scope="module")
def plain(repository, tmp_path_factory):
    """All keys of a plain clone."""
    top = tmp_path_factory.mktemp("plain") / "clone"
    git(repository, "clone", "-q", repository, top)
    return everything(top)


def clone(repository, top, *settings):
    git(repository, *settings, "clone", "-q", repository, top)


def crlf_clone(repository, top):
    clone(repository, top, "-c", "core.autocrlf=true")


def crlf_by_eol(repository, top):
    clone(repository, top, "-c", "core.autocrlf=true", "-c", "core.eol=crlf")


def executable(repository, top):
    clone(repository, top)
    for file in top.rglob("*"):
        if ".git" not in file.parts:
            file.chmod(0o777)


def private(repository, top):
    subprocess.run(["sh", "-c", f"umask 077; git clone -q {repository} {top}"], check=True)


def zip_download(repository, top):
    archive = top.with_suffix(".zip")
    git(repository, "archive", "--format=zip", "-o", archive, "HEAD")
    # zipfile does not restore modes
    subprocess.run([sys.executable, "-m", "zipfile", "-e", archive, top], check=True)


def tar_download(repository, top):
    top.mkdir()
    archive = subprocess.run([*GIT, "-C", repository, "archive", "HEAD"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", top], input=archive, check=True)


def without_links(repository, top):
    clone(repository, top, "-c", "core.symlinks=false", "-c", "core.fileMode=false")


WAYS = (crlf_clone, crlf_by_eol, executable, private, zip_download, tar_download, without_links)


@pytest.mark.parametrize("way", WAYS)
def test_the_keys_are_those_of_a_plain_clone(repository, plain, tmp_path, way):
    top = tmp_path / "checkout"
    way(repository, top)
    assert everything(top) == plain


@pytest.mark.parametrize("way", [crlf_clone, executable, private, without_links])
def test_a_clone_is_clean_in_the_provenance(repository, tmp_path, way):
    top = tmp_path / "checkout"
    way(repository, top)
    assert provenance.source(top) == {"commit": git(repository, "rev-parse", "HEAD").strip(), "changed": []}


def test_settings_of_git_hide_no_change(repository, tmp_path):
    top = tmp_path / "checkout"
    clone(repository, top)
    (top / "salt/base/new.sls").touch()
    git(top, "config", "status.showUntrackedFiles", "no")
    git(top, "config", "status.relativePaths", "false")
    assert provenance.source(top)["changed"] == ["salt/base/new.sls"]


@pytest.mark.parametrize("way", [zip_download, tar_download])
@pytest.mark.parametrize("ignored", [False, True])
def test_below_another_repository_its_commit_and_files_are_not_taken(repository, tmp_path, way, ignored):
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("checkout/\n" if ignored else "")
    git(tmp_path, "add", ".gitignore")
    git(tmp_path, "commit", "-qm", "of another project")
    top = tmp_path / "checkout"
    way(repository, top)
    assert provenance.source(top) == {"commit": None, "changed": []}
    assert {"Makefile", "pillar/box.sls", "scripts/venv.sh"} <= {str(p.relative_to(top)) for p in of.sources(top)}


def test_in_a_hook_of_another_repository_its_commit_is_not_taken(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(repository))
    (tmp_path / "Makefile").touch()
    assert provenance.source(tmp_path) == {"commit": None, "changed": []}
    assert of.sources(tmp_path) == [tmp_path / "Makefile"]


def test_a_checkout_reached_by_a_link_is_its_own_repository(repository, tmp_path):
    (tmp_path / "link").symlink_to(repository)
    assert provenance.source(tmp_path / "link")["commit"] == git(repository, "rev-parse", "HEAD").strip()


@pytest.mark.parametrize("way", [executable, zip_download])
def test_no_file_of_a_box_is_executable(repository, tmp_path, way):
    top = tmp_path / "checkout"
    way(repository, top)
    assert {carried.mode(file) for file in carried.carried(top, "debian-12").values()} == {0o644}


def test_make_runs_all_scripts_without_their_mode(repository, tmp_path):
    top = tmp_path / "checkout"
    zip_download(repository, top)
    targets = ("image", "test", "test-slow", "lint", "verify", "bundle", ".venv/.made")
    commands = subprocess.run(["make", "-n", *targets], cwd=top, capture_output=True, text=True, check=True).stdout
    called = [line for line in commands.splitlines() if "scripts/" in line and not line.lstrip().startswith("#")]
    called += [
        line for file in (top / "scripts").glob("*.sh") for line in file.read_text().splitlines()
        if "scripts/" in line and not line.startswith("#")
    ]  # fmt: skip
    assert len(called) > 10
    assert [line for line in called if "sh scripts/" not in line and "python scripts/" not in line] == []


@pytest.mark.parametrize("name", ["salt/base/linked", "vault_cube/box/linked", "workloads/linked"])
@pytest.mark.parametrize("target", ["nowhere", "."])
def test_a_link_that_is_no_file_is_refused(repository, tmp_path, name, target):
    top = tmp_path / "checkout"
    clone(repository, top)
    (top / name).symlink_to(target)
    with pytest.raises(VaultCubeError, match=rf"{name}: a link to {target}, which is no file"):
        everything(top)


def test_a_link_to_a_file_has_the_key_of_the_file(repository, plain, tmp_path):
    top = tmp_path / "checkout"
    clone(repository, top)
    state = top / "salt/base/ssh.sls"
    state.rename(tmp_path / "ssh.sls")
    state.symlink_to(tmp_path / "ssh.sls")
    assert everything(top) == plain


@pytest.mark.skipif(os.geteuid() != 0, reason="scripts/apt.sh may have to install python3-venv")
def test_the_environment_is_elsewhere_if_the_file_system_has_no_links(repository, tmp_path):
    """A small `ln` that fails stands for a file system without links; a small Python for the one that is installed."""
    top = tmp_path / "checkout"
    zip_download(repository, top)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"ln": "exit 1", "dpkg-query": "echo installed"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    # only the environment itself: an empty lock makes the rest fast
    (top / "locks/checkout.lock").write_text("")
    script = (top / "scripts/venv.sh").read_text()
    (top / "scripts/venv.sh").write_text("".join(
        line for line in script.splitlines(keepends=True) if not line.startswith("sh scripts/wheels.sh")
    ).replace("-m venv", "-m venv --without-pip"))  # fmt: skip
    ran = subprocess.run(
        ["sh", "scripts/venv.sh", ".venv"], cwd=top, capture_output=True, text=True, check=False, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    assert "this file system has no symbolic links: the environment is in" in ran.stderr
    answer = subprocess.run([top / ".venv/bin/python", "-c", "import vault_cube; print(vault_cube.__file__)"],
                            capture_output=True, text=True, check=True, cwd=tmp_path)  # fmt: skip
    assert Path(answer.stdout.strip()).parent == top / "vault_cube"
    assert not [path for path in (top / ".venv").rglob("*") if path.is_symlink()]
