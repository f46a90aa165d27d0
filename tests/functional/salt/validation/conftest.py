"""Fixtures for the programs of Debian's Prometheus, which `make test` unpacks, and for rendered files."""

import subprocess

import pytest
import yaml
from copied import TOP

PROGRAMS = TOP / ".venv/debian/usr/bin"
FILES = "salt://validation/files"


@pytest.fixture(scope="session")
def program():
    """program(name) returns the path of promtool, prometheus or prometheus-node-exporter."""

    def find(name):
        file = PROGRAMS / name
        return file if file.is_file() else pytest.skip(f"{file} is missing: run `make test`, which unpacks it")

    return find


@pytest.fixture(scope="session")
def promtool(program):
    """promtool(*words, cwd, given) runs promtool with given as standard input. Returns (exit status, output)."""

    def run(*words, cwd=None, given=None):
        command = [program("promtool"), *words]
        ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd=cwd)
        return ran.returncode, ran.stdout + ran.stderr

    return run


@pytest.fixture(scope="session")
def rendered(salt_of):
    """rendered(target, file) returns a file of salt/validation/files as rendered for a box of the target."""
    texts = {}

    def render(target, name):
        if (target, name) not in texts:
            source = f"{FILES}/{name}"
            texts[target, name] = salt_of(target).modules.slsutil.renderer(source, default_renderer="jinja")
        return texts[target, name]

    return render


@pytest.fixture(scope="session")
def alerts(rendered):
    """alerts(target) returns the target's rules by name."""

    def read(target):
        groups = yaml.safe_load(rendered(target, "alerts.yml"))["groups"]
        return {rule["alert"]: rule for group in groups for rule in group["rules"]}

    return read
