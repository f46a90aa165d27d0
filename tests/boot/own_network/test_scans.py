"""Lynis in the booted guest, and ssh-audit against its sshd."""

import json
import os
import subprocess
import sys

import pytest
import ssh_audit_report
from lasting import root

from vault_cube import process
from vault_cube.image.guest.qemu import GUEST
from vault_cube.image.inspect import scan

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")]


@pytest.fixture(scope="module")
def box(disk):
    return disk.start()


@pytest.fixture(scope="module")
def results(space):
    folder = space.build / "scan"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_lynis(box, space, results, tmp_path):
    scan.unpack(space, tmp_path)
    packed = subprocess.run(
        f"tar -C {tmp_path} -cz usr/share/lynis etc/lynis usr/sbin/lynis | base64", shell=True, check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    root(box, f"mkdir -p {scan.FOLDER}\nbase64 --decode <<'END' | tar -C {scan.FOLDER} -xz\n{packed}END\n")
    root(box, f"chown -R root:root {scan.FOLDER}; {scan.lynis_command()}", 1800)
    text = root(box, f"cat {scan.FOLDER}/lynis.dat")
    (results / "guest-lynis.dat").write_text(text)
    (results / "guest-lynis.log").write_text(root(box, f"cat {scan.FOLDER}/lynis.log"))
    verdict = scan.judge_lynis(scan.lynis_report(text), scan.Tailoring.read(), booted=True)
    print(verdict.evidence)
    assert verdict.status == "ok", verdict


def test_ssh_audit(box, expected, results):
    """From the guest's network, whose first address fail2ban may ban afterwards; our own ssh comes from another one."""
    line = [
        sys.executable,
        "-m",
        "ssh_audit.ssh_audit",
        "--json",
        "--skip-rate-test",
        "-p",
        str(expected.ssh_port),
        GUEST,
    ]
    ran = process.run([*box.outside, *line], timeout_s=300, ok=None)
    report = json.loads(ran.stdout)
    (results / "guest-ssh-audit.json").write_text(json.dumps(report, indent=1))
    assert len(report["kex"]) >= 3
    assert ssh_audit_report.unwanted(report) == set()
