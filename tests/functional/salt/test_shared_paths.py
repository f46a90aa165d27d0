"""Packages of one environment that contain the same file with different content: the last package by name wins."""

import subprocess
from pathlib import Path

import pytest

from vault_cube.python_env import environments

PYTHON = Path("/usr/bin/python3")


@pytest.fixture
def make(tmp_path, wheels, monkeypatch):
    """make(contents) creates an environment with one package per name, each with the given files."""
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels.folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    folder, lock = tmp_path / "envs/shared", tmp_path / "python-shared.lock"

    def create(contents):
        for name, files in contents.items():
            if not list(wheels.folder.glob(f"{name}-*")):
                wheels(name, "1.0", {f"{name}/__init__.py": "def main():\n    pass\n", **files})
        wheels.lock(lock, *((name, "1.0") for name in contents))
        environments.make(folder, lock, PYTHON, share_with=[], indexes=[])
        return folder

    create.lock = lock
    return create


def content(folder, path):
    return next(folder.glob(f"lib/python3.*/site-packages/{path}")).read_text()


TWO = {"alpha": {"build_backend.py": "a = 1\n"}, "beta": {"build_backend.py": "b = 1\n"}}
CONFLICTS = [
    (TWO, {"build_backend.py": "b = 1\n"}),
    # the order of the lines in the lock does not matter
    (dict(reversed(TWO.items())), {"build_backend.py": "b = 1\n"}),
    ({**TWO, "gamma": {"build_backend.py": "a = 1\n"}}, {"build_backend.py": "a = 1\n"}),
    (
        {"alpha": {"x.py": "a\n"}, "beta": {"x.py": "b\n", "tests/y.py": "b\n"}, "gamma": {"tests/y.py": "g\n"}},
        {"x.py": "b\n", "tests/y.py": "g\n"},
    ),
    # equal contents are no conflict
    ({"alpha": {"x.py": "same\n"}, "beta": {"x.py": "same\n"}}, {"x.py": "same\n"}),
]


@pytest.mark.parametrize(("contents", "expected"), CONFLICTS)
def test_the_last_package_by_name_wins_and_no_file_counts_as_damaged(make, contents, expected):
    folder = make(contents)
    assert {path: content(folder, path) for path in expected} == expected
    assert not environments.damage(folder)
    assert not environments.compare(folder, make.lock, PYTHON)


def test_two_builds_are_identical(make):
    first = environments.tree_digest(make(TWO))
    subprocess.run(["rm", "-rf", make(TWO)], check=True)
    assert environments.tree_digest(make(TWO)) == first


def test_an_edit_of_a_shared_file_is_found_and_repaired(make):
    folder = make(TWO)
    file = next(folder.glob("lib/python3.*/site-packages/build_backend.py"))
    file.chmod(0o644)
    file.write_text("a = 1\n")
    assert [Path(path).name for path in environments.damage(folder).altered] == ["build_backend.py"]
    make(TWO)
    assert content(folder, "build_backend.py") == "b = 1\n"
    assert not environments.damage(folder)


def test_after_a_package_is_removed_the_file_is_that_of_the_other(make):
    make(TWO)
    folder = make({"alpha": TWO["alpha"]})
    assert content(folder, "build_backend.py") == "a = 1\n"
    assert not environments.damage(folder)
