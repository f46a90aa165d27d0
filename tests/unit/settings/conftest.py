"""Fixtures for a merged pillar with a test's own local.sls."""

import shutil

import pytest
import yaml
from copied import TOP, merged

from vault_cube.settings import check


@pytest.fixture
def pillar_root(tmp_path):
    """A copy of the checkout's pillar that a test may change."""
    shutil.copytree(TOP / "pillar", tmp_path / "pillar", ignore=shutil.ignore_patterns("local.sls"))
    return tmp_path / "pillar"


@pytest.fixture
def checked(pillar_root):
    """checked(target, local) checks a target's pillar with a local.sls; returns the settings or raises PillarError.

    asked_for: the requested target, which is the name of its file.
    """

    def make(target, local=None, asked_for=None):
        files = [pillar_root / "box.sls", pillar_root / "targets" / f"{target}.sls"]
        if local is not None:
            files.append(pillar_root / "local.sls")
            files[-1].write_text(yaml.safe_dump(local))
        return check(merged(*(yaml.safe_load(file.read_text()) for file in files)), files, asked_for or target)

    return make
