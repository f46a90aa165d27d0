"""Packages that are in the pillar but not locked are reported before the first download."""

import shutil
from pathlib import Path

import pytest
from copied import chosen, merged

from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight
from vault_cube.image.workspace import Workspace
from vault_cube.settings import check

TOP = Path(__file__).parents[3]


@pytest.fixture
def space(tmp_path):
    shutil.copytree(TOP / "locks", tmp_path / "locks")
    pillar = merged(*chosen("debian-12"))

    def make(section, packages):
        pillar[section]["packages"] = [*pillar[section]["packages"], *packages]
        return Workspace(tmp_path, check(pillar), pillar, cache=tmp_path / "cache", store=tmp_path / "store")

    return make


def test_the_committed_locks_contain_all_packages_of_the_pillar(space):
    assert preflight.has_locks(preflight.Builder(space("base", []))).endswith(" wheels")


@pytest.mark.parametrize("section", ["base", "frameworks", "validation"])
def test_a_package_that_is_not_locked_is_one_line_with_its_key(space, section):
    with pytest.raises(VaultCubeError) as caught:
        preflight.has_locks(preflight.Builder(space(section, ["not-locked-yet"])))
    assert f"not-locked-yet ({section}:packages): run `make lock TARGET=debian-12`" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_python_lock_is_reported(space, tmp_path):
    (tmp_path / "locks/debian-12/python-vllm.lock").unlink()
    with pytest.raises(VaultCubeError, match=r"python-vllm\.lock: this lock does not exist yet"):
        preflight.has_locks(preflight.Builder(space("base", [])))
