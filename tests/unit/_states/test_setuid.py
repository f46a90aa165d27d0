"""setuid.removed with a stand-in for dpkg-statoverride: first run, second run, test=True, and failures."""

import importlib.util
import os
import sys

import pytest
from copied import TOP

PROGRAM = """\
#!{python}
import os, sys
*_, owner, group, mode, path = sys.argv
if "broken" in path:
    sys.exit("dpkg-statoverride: error: the list is locked")
with open({overrides!r}, "a") as file:
    print(owner, group, mode.lstrip("0"), path, file=file)
if os.path.exists(path):
    os.chmod(path, int(mode, 8))
"""


@pytest.fixture
def state(tmp_path, monkeypatch):
    overrides = tmp_path / "statoverride"
    program = tmp_path / "bin/dpkg-statoverride"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable, overrides=str(overrides)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    spec = importlib.util.spec_from_file_location("setuid_state", TOP / "_states/setuid.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.OVERRIDES = overrides
    module.__opts__ = {"test": False}
    return module


@pytest.fixture
def chfn(tmp_path):
    file = tmp_path / "chfn"
    file.touch()
    file.chmod(0o4755)
    return file


def mode(file):
    return file.stat().st_mode & 0o7777


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the program must belong to root")


@needs_root
def test_the_bit_is_removed_once_and_for_later_versions(state, chfn):
    assert state.removed(str(chfn))["changes"]
    assert mode(chfn) == 0o755
    assert state.OVERRIDES.read_text() == f"root root 755 {chfn}\n"
    assert state.removed(str(chfn))["changes"] == {}


@needs_root
@pytest.mark.parametrize("damaged", [0o4755, 0o2755, 0o777])
def test_a_mode_that_somebody_changed_is_repaired(state, chfn, damaged):
    state.removed(str(chfn))
    chfn.chmod(damaged)
    assert state.removed(str(chfn))["changes"]
    assert mode(chfn) == 0o755


@needs_root
def test_a_line_that_somebody_removed_is_written_again(state, chfn):
    state.removed(str(chfn))
    state.OVERRIDES.write_text("root root 4755 /usr/bin/other\n")
    assert state.removed(str(chfn))["changes"]
    assert f"root root 755 {chfn}" in state.OVERRIDES.read_text().splitlines()


def test_a_missing_program_gets_its_line(state, tmp_path):
    assert state.removed(str(tmp_path / "none"))["changes"]
    assert state.removed(str(tmp_path / "none"))["changes"] == {}


def test_a_dry_run_changes_nothing(state, chfn):
    state.__opts__ = {"test": True}
    assert state.removed(str(chfn))["result"] is None
    assert mode(chfn) == 0o4755
    assert not state.OVERRIDES.exists()


def test_a_failure_is_one_line(state, tmp_path):
    result = state.removed(str(tmp_path / "broken"))
    assert (result["result"], result["changes"]) == (False, {})
    assert "the list is locked" in result["comment"]
    assert "\n" not in result["comment"]
