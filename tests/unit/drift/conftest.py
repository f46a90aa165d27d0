"""A pristine tree with its manifest, made once, and a copy of it for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import box
import pytest


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a pristine tree; `manifest.gz` is beside it."""
    root = tmp_path_factory.mktemp("pristine") / "root"
    root.mkdir()
    box.make(root)
    box.write_manifest(root, root.parent / "manifest.gz")
    return root


@pytest.fixture
def copy(pristine: Path, tmp_path: Path) -> Path:
    """Return a copy of the pristine tree, which a test may change."""
    root = tmp_path / "root"
    shutil.copytree(pristine, root, symlinks=True)
    shutil.copy(pristine.parent / "manifest.gz", tmp_path)
    return root
