"""The copy of a checkout has its source files and its commit, and no generated files."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from vault_cube.image import checkout as of
from vault_cube.image.attest import provenance


@pytest.fixture
def checkout(tmp_path):
    top = tmp_path / "checkout"
    for file in ("Makefile", "salt/base/init.sls", ".venv/bin/python", ".git/HEAD", "build/x/log", "dist/old.qcow2",
                 "carried/store/aa", "vault_cube/__pycache__/a.pyc", ".ruff_cache/x", "pillar/local.sls"):  # fmt: skip
        (top / file).parent.mkdir(parents=True, exist_ok=True)
        (top / file).write_text(file)
    (top / "_modules").mkdir()
    (top / "_modules/image.py").write_text("")
    (top / "Makefile").chmod(0o777)
    (top / "salt/base/init.sls").write_text("#!jinja|yaml\n")
    (top / "salt/_modules").symlink_to("../_modules")
    return top


def test_the_copy_has_the_sources_and_no_generated_files(checkout, tmp_path):
    of.copy(checkout, tmp_path / "other")
    copied = {
        str(path.relative_to(tmp_path / "other")) for path in (tmp_path / "other").rglob("*")
        if path.is_file() or path.is_symlink()
    }  # fmt: skip
    assert copied == {
        "Makefile", "salt/base/init.sls", "salt/_modules", "_modules/image.py", "pillar/local.sls",
        "carried/source.json",
    }  # fmt: skip
    # the modes of a checkout on vfat say nothing
    assert (tmp_path / "other/Makefile").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "other/salt/base/init.sls").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "other/salt/_modules").readlink() == Path("../_modules")


def test_the_copy_records_its_commit(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "source", lambda top: {"commit": "abc", "changed": ["Makefile"]})
    of.copy(checkout, tmp_path / "other")
    assert json.loads((tmp_path / "other" / provenance.CARRIED).read_text()) == {
        "commit": "abc",
        "changed": ["Makefile"],
    }


def test_with_git_the_sources_are_the_files_not_ignored_and_the_local_pillar(checkout, tmp_path):
    shutil.rmtree(checkout / ".git")
    subprocess.run(["git", "init", "-q", checkout], check=True)
    (checkout / ".gitignore").write_text(
        "/.venv/\n/build/\n/dist/\n/carried/\n__pycache__/\n*_cache/\n/pillar/local.sls\n*.key\n"
    )
    (checkout / "mine.key").write_text("secret")
    (checkout / "new.sls").write_text("not committed yet")
    names = [str(file.relative_to(checkout)) for file in of.sources(checkout)]
    assert names == [
        ".gitignore", "Makefile", "_modules/image.py", "new.sls", "pillar/local.sls", "salt/_modules",
        "salt/base/init.sls",
    ]  # fmt: skip
