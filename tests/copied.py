"""A pillar, a minion and a copy of the checkout, for all tests that need one."""

import os
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import yaml

from vault_cube import carried
from vault_cube.image.workspace import Workspace
from vault_cube.settings import check

TOP = Path(__file__).parents[1]
SOURCES = (
    *(name for name in carried.FOLDERS if "/" not in name),
    *carried.FILES,
    "docs",
    "locks",
    "README.md",
    "Makefile",
)


def merged(*parts):
    """Merge recursively, and replace lists, as conf/common.conf configures Salt."""
    out = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(out.get(key), dict)
            out[key] = merged(out[key], value) if both else deepcopy(value)
    return out


@cache
def chosen(target):
    """Read the pillar files of a target."""
    files = [TOP / "pillar/box.sls", TOP / "pillar/targets" / f"{target}.sls"]
    return [yaml.safe_load(file.read_text()) for file in files]


def pillar_of(target, local=None):
    """Return a target's merged pillar, with a local.sls."""
    return merged(*chosen(target), local or {})


def minion(folder, target="debian-12", *, local=None, pillar=TOP / "pillar", states=TOP / "salt", **own):
    """Write a minion's configuration with the checkout's modules, and folders of its own. Returns its folder.

    local: content of pillar/local.sls; the checkout's own local.sls is never used. own: further or other options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if pillar == TOP / "pillar":
        pillar = folder / "pillar"
        pillar.mkdir()
        for name in ("box.sls", "target.sls", "top.sls", "targets"):
            (pillar / name).symlink_to(TOP / "pillar" / name)
        if local is not None:
            (pillar / "local.sls").write_text(yaml.safe_dump(local))
    options = {
        name: str(folder / name) for name in ("root_dir", "cachedir", "pki_dir", "sock_dir", "extension_modules")
    }
    options |= {"include": str(TOP / "conf/common.conf"), "id": "test", "log_file": str(folder / "log")}
    options |= {"vault_cube": {"target": target, "checkout": str(TOP)}}
    options |= {"file_roots": {"base": [str(states)]}, "pillar_roots": {"base": [str(pillar)]}}
    kinds = {"module": "modules", "states": "states", "grains": "grains", "pillar": "pillar"}
    options |= {f"{kind}_dirs": [str(TOP / f"_{name}")] for kind, name in kinds.items()}
    (folder / "minion").write_text(yaml.safe_dump(options | own))
    return folder


def distribution(target):
    """Return the grains of a box of the target, for `minion`."""
    values = chosen(target)[1]["target"]
    grains = {"os": values["os"], "os_family": "Debian", "osrelease": values["release"]}
    return grains | {"oscodename": values["codename"], "osfinger": f"{values['os']}-{values['release']}"}


def salt_call(folder, *words, environment=None, cwd=None):
    """Run salt-call as the minion in a folder. Returns the finished process; no traceback may reach the user."""
    command = [Path(sys.executable).with_name("salt-call"), "--local", "--retcode-passthrough", "-c", folder, *words]
    variables = os.environ | {"PYTHONPATH": str(TOP)} | (environment or {})
    ran = subprocess.run(
        command, capture_output=True, text=True, env=variables, timeout=120, check=False, cwd=cwd or folder
    )
    assert "Traceback" not in ran.stdout + ran.stderr
    return ran


@pytest.fixture
def checkout(tmp_path):
    """A copy of the sources of this checkout."""
    top = tmp_path / "checkout"
    top.mkdir()
    # cp takes a tenth of the time of shutil.copytree
    subprocess.run(["cp", "-r", *(TOP / name for name in SOURCES), top], check=True)
    (top / "pillar/local.sls").unlink(missing_ok=True)
    return top


@pytest.fixture
def workspace(checkout, tmp_path):
    """workspace(target, local) makes the workspace of a target in the copy, with `local` merged into its pillar.

    edit(pillar) can make changes that merging cannot.
    """

    def make(target="debian-12", local=None, locked=False, edit=None):
        pillar = merged(*chosen(target), local or {})
        if edit:
            edit(pillar)
        return Workspace(checkout, check(pillar), pillar, locked, tmp_path / "cache", tmp_path / "store")

    return make
