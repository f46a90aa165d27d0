"""ssh-audit against the image's sshd with the box's own configuration: no failure, only chosen warnings."""

import json
import os
from pathlib import Path

import pytest
import ssh_audit
import ssh_audit_report
import test_layers_in_tree as in_tree

from vault_cube.image.layers import chroot

pytestmark = [pytest.mark.image, pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root")]
# the fixtures of that file
space, trees, inside = in_tree.space, in_tree.trees, in_tree.inside

AUDIT = """\
ip link set lo up
ssh-keygen -A >/dev/null
mkdir -p /run/sshd
/usr/sbin/sshd
for n in $(seq 60); do ss -Hltn 'sport = :22' | grep -q . && break; sleep 0.2; done
cd /run/audit
python3 -B -m ssh_audit.ssh_audit --json --skip-rate-test 127.0.0.1 || :
"""


def test_ssh_audit_has_no_failure_and_only_the_chosen_warnings(inside):
    package = chroot.Bind(Path(ssh_audit.__file__).parent, "/run/audit/ssh_audit")
    _, output = inside(["sh", "-euc", AUDIT], [package])
    report = json.loads(output[output.index("{") :])
    print({kind: len(report[kind]) for kind in ("kex", "key", "enc", "mac")}, report["banner"]["raw"])
    assert len(report["kex"]) >= 3
    assert ssh_audit_report.unwanted(report) == set()
    assert report["kex"][0]["algorithm"].startswith(("sntrup761x25519", "mlkem768x25519"))
