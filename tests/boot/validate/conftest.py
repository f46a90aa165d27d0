"""Validate a box over ssh: `make validate`. All values are compared with the box's own pillar.

VAULT_CUBE_HOST is USER@ADDRESS[:PORT] of any box, VAULT_CUBE_KEY the file of its ssh key; the user must be in group
sudo. Without VAULT_CUBE_HOST, the image of VAULT_CUBE_TARGET is booted; the boot test scans its other ports.
"""

import json
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra

from vault_cube import process
from vault_cube.settings import check

SSH = ("-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentityAgent=none")


@dataclass(frozen=True)
class Target:
    """The box that is validated."""

    user: str
    address: str
    port: int
    """Port of ssh."""
    key: str
    """File of the ssh key."""

    def ssh(self, *options, command="true"):
        """Log in from outside, without asking for anything. Returns the result of the process."""
        line = ["ssh", *SSH, "-p", str(self.port), "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", *options]
        return process.run([*line, self.address, command], timeout_s=120, ok=None)


@pytest.fixture(scope="session")
def target(request):
    given = os.environ.get("VAULT_CUBE_HOST")
    if not given:
        guest = request.getfixturevalue("box")
        return Target(guest.seed.user, "127.0.0.1", guest.run.port, str(guest.seed.key))
    match = re.fullmatch(r"([^@\s]+)@([^@\s:]+|\[[0-9a-fA-F:]+\])(?::(\d+))?", given)
    key = Path(os.environ.get("VAULT_CUBE_KEY", "")).expanduser()
    if not match or not key.is_file():
        pytest.exit("make validate: name a box and its key: make validate HOST=USER@ADDRESS[:PORT] KEY=FILE", 2)
    box = Target(match[1], match[2].strip("[]"), int(match[3] or 22), str(key))
    done = box.ssh(
        "-i", box.key, "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", "-l", box.user, command="sudo -n true"
    )
    if done.returncode:
        pytest.exit(f"make validate: {given}: {process.last_line(done.stderr) or 'sudo -n true fails'}", 2)
    return box


@pytest.fixture(scope="session")
def host(target):
    """testinfra's connection to the box."""
    return testinfra.get_host(
        f"ssh://{target.user}@{target.address}:{target.port}",
        ssh_identity_file=target.key,
        ssh_extra_args=" ".join([*SSH, "-o IdentitiesOnly=yes -o BatchMode=yes -o LogLevel=ERROR"]),
    )


@pytest.fixture(scope="session")
def salt(host):
    """salt(words) runs salt-call on the box as root. Returns its result and its exit status."""

    def call(*words):
        ran = host.run(
            f"sudo -n salt-call --local --retcode-passthrough --out=json --log-level=quiet {' '.join(words)}"
        )
        try:
            return json.loads(ran.stdout)["local"], ran.rc
        except (ValueError, KeyError):
            pytest.fail(f"salt-call {words[0]}: {(ran.stderr or ran.stdout).strip()[-400:]}", pytrace=False)

    return call


@pytest.fixture(scope="session")
def box_settings(salt):
    """The box's own pillar, after validation; `settings` is that of the image, which is booted without HOST."""
    return check(salt("pillar.raw")[0])


@pytest.fixture(scope="session")
def remote(target):
    """Skip a test that needs another machine: on loopback all ports answer, and QEMU forwards ssh only."""
    if socket.gethostbyname(target.address).startswith("127."):
        pytest.skip("the box is on this machine: its ports are seen from another one only")


def pytest_html_report_title(report):
    report.title = (
        f"Validation of {os.environ.get('VAULT_CUBE_HOST') or os.environ.get('VAULT_CUBE_TARGET', 'debian-12')}"
    )


def pytest_html_results_table_header(cells):
    """Name the columns; no links column."""
    del cells[-1]


def pytest_html_results_table_row(report, cells):
    if cells:
        del cells[-1]
