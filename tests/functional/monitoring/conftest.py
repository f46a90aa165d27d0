"""Debian's own Prometheus, its programs run from where `make test` unpacked them."""

import subprocess
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[3]
PROGRAMS = TOP / ".venv/debian/usr/bin"
FILES = "salt://validation/files"


@pytest.fixture(scope="session")
def program():
    """program(name) is the path of promtool, prometheus or prometheus-node-exporter."""

    def find(name):
        file = PROGRAMS / name
        return file if file.is_file() else pytest.skip(f"{file} is missing: make test unpacks it")

    return find


@pytest.fixture(scope="session")
def promtool(program):
    """promtool(*words, cwd, given) runs it on a standard input: (exit status, what it printed)."""

    def run(*words, cwd=None, given=None):
        command = [program("promtool"), *words]
        ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd=cwd)
        return ran.returncode, ran.stdout + ran.stderr

    return run


@pytest.fixture(scope="session")
def rendered(salt_of):
    """rendered(target, file) is a file of salt/validation/files as a box of the target gets it."""
    made = {}

    def render(target, name):
        if (target, name) not in made:
            source = f"{FILES}/{name}"
            made[target, name] = salt_of(target).modules.slsutil.renderer(source, default_renderer="jinja")
        return made[target, name]

    return render


@pytest.fixture(scope="session")
def alerts(rendered):
    """alerts(target) is the target's rules by name."""

    def read(target):
        groups = yaml.safe_load(rendered(target, "alerts.yml"))["groups"]
        return {rule["alert"]: rule for group in groups for rule in group["rules"]}

    return read
