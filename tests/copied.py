"""A copy of the checkout for tests that change it, with a pillar merged in the same way as by Salt."""

import subprocess
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
