"""held.packages with stand-ins for dpkg-query and apt-mark: first run, second run, test=True, and failures."""

import importlib.util
import os
import sys

import pytest
from copied import TOP

PROGRAM = """\
#!{python}
import sys
from pathlib import Path
file = Path({file!r})
wants = [line.split() for line in file.read_text().splitlines()]
asked = [word for word in sys.argv[1:] if not word.startswith("-")]
if Path(sys.argv[0]).name == "dpkg-query":
    for package, want in wants:
        if package in asked:
            print(package, want)
    sys.exit(not set(asked) <= {{package for package, _ in wants}})
if asked[1:] and "broken" in asked:
    sys.exit("E: the lock is held")
known = [(package, "hold" if package in asked[1:] else want) for package, want in wants]
file.write_text("".join(f"{{package}} {{want}}\\n" for package, want in known))
"""


@pytest.fixture
def dpkg(tmp_path, monkeypatch):
    """The file in which the stand-ins keep one package per line, with what is wanted of it."""
    file = tmp_path / "wants"
    for name in ("dpkg-query", "apt-mark"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(PROGRAM.format(python=sys.executable, file=str(file)))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return file


def held(test=False):
    spec = importlib.util.spec_from_file_location("state_held", TOP / "_states/held.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__opts__ = {"test": test}
    return module


# a library of two architectures has two lines
@pytest.mark.parametrize("wants", ["a install\nb hold\n", "a install\na hold\nb hold\n", "a deinstall\nb hold\n"])
def test_what_is_not_held_is_reported_and_then_held(dpkg, wants):
    dpkg.write_text(wants)
    planned = held(test=True).packages("both", ["a", "b"])
    assert (planned["result"], planned["changes"]) == (None, {"a": {"old": "not held", "new": "held"}})
    assert dpkg.read_text() == wants
    done = held().packages("both", ["a", "b"])
    assert (done["result"], done["changes"]) == (True, planned["changes"])
    for test in (True, False):
        again = held(test).packages("both", ["a", "b"])
        assert (again["result"], again["changes"]) == (True, {})


def test_a_package_that_is_not_installed_is_named(dpkg):
    dpkg.write_text("a hold\n")
    assert held(test=True).packages("both", ["a", "b"])["changes"].keys() == {"b"}
    failed = held().packages("both", ["a", "b"])
    assert (failed["result"], failed["changes"]) == (False, {})
    assert failed["comment"] == "b: not held after apt-mark hold: install the package"


def test_a_command_that_fails_is_one_line(dpkg):
    dpkg.write_text("broken install\n")
    failed = held().packages("it", ["broken"])
    assert (failed["result"], failed["changes"]) == (False, {})
    assert failed["comment"] == "apt-mark failed with status 1: E: the lock is held"
