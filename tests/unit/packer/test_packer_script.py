"""scripts/packer.sh installs Packer if the archive has it, else fails with one line. Small programs stand for apt's."""

import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]


@pytest.fixture
def machine(tmp_path):
    """machine(candidate, installed) runs the script. Returns its status, its stderr and the packages it installed."""
    (tmp_path / "checkout/scripts").mkdir(parents=True)
    script = tmp_path / "checkout/scripts/packer.sh"
    script.write_bytes((TOP / "scripts/packer.sh").read_bytes())

    def program(path, text):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(candidate, installed=False):
        program(tmp_path / "checkout/scripts/apt.sh", f'echo "$@" >{tmp_path}/installed')
        program(tmp_path / "bin/apt-cache", candidate and f"printf 'packer:\\n  Candidate: {candidate}\\n'")
        if installed:
            program(tmp_path / "bin/packer", "")
        for name in ("sed", "dirname"):
            (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
        done = subprocess.run(
            ["/bin/sh", script], env={"PATH": f"{tmp_path}/bin"}, capture_output=True, text=True, check=False
        )
        file = tmp_path / "installed"
        return done.returncode, done.stderr, file.read_text().strip() if file.exists() else None

    return run


def test_packer_is_installed_from_an_archive_that_has_it(machine):
    assert machine("1.6.6+ds2-1") == (0, "", "packer")


@pytest.mark.parametrize("candidate", ["(none)", ""], ids=["Debian 13", "Ubuntu 24.04"])
def test_an_archive_without_packer_is_an_error_of_one_line(machine, candidate):
    assert machine(candidate) == (1, "Packer is not in this machine's archive\n", None)


def test_an_installed_packer_is_used_even_if_the_archive_has_none(machine):
    assert machine("(none)", installed=True) == (0, "", None)


@pytest.mark.parametrize("target", ["test", "test-slow", "verify", "image"])
def test_no_make_target_requires_packer(target):
    shown = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=TOP, capture_output=True, text=True, check=True,
        env={**os.environ, "MAKEFLAGS": ""},
    ).stdout  # fmt: skip
    assert not [line for line in shown.splitlines() if "apt.sh" in line and "packer" in line]
