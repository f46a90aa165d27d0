"""`drift.report` in the tree of a built image: mutations of the real files, all at once, each with its class."""

import json
import os

import pytest
import test_layers_in_tree as in_tree

pytestmark = [pytest.mark.image, pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root")]
# the fixtures of that file
space, trees, inside = in_tree.space, in_tree.trees, in_tree.inside

SITE = "$(ls -d /opt/vault-cube/envs/pytorch/lib/*/site-packages)"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEvil x"
SSHD = "/etc/ssh/sshd_config.d/00-vault-cube.conf"
DROP_IN = "/etc/systemd/system/ssh.service.d"
MUTATIONS = {
    # what a finding names: class, command
    SSHD: ("repaired", f"sed -i 's/PermitRootLogin no/PermitRootLogin yes/' {SSHD}"),
    "/etc/sysctl.d/99-vault-cube.conf": ("repaired", "rm /etc/sysctl.d/99-vault-cube.conf"),
    "/etc/ufw/ufw.conf": ("repaired", "sed -i s/ENABLED=yes/ENABLED=no/ /etc/ufw/ufw.conf"),
    "/etc/docker/daemon.json": ("repaired", "echo '{}' > /etc/docker/daemon.json"),
    "fail2ban.service": ("repaired", "systemctl disable fail2ban.service"),
    "/etc/systemd/system/apt-daily-upgrade.timer": ("unmanaged", "systemctl mask apt-daily-upgrade.timer"),
    DROP_IN: ("unmanaged", f"mkdir {DROP_IN}; echo '[Service]' > {DROP_IN}/x.conf"),
    "/etc/systemd/system/evil.service": ("unmanaged", "echo '[Service]' > /etc/systemd/system/evil.service"),
    "/usr/bin/sudo": ("unmanaged", "echo evil > /usr/bin/sudo; chmod 4755 /usr/bin/sudo"),
    "/usr/bin/bash": ("unmanaged", "chmod 4755 /usr/bin/bash"),
    "/usr/bin/less": ("unmanaged", "rm /usr/bin/less"),
    "/usr/bin/tar": ("unmanaged", "chown nobody /usr/bin/tar"),
    "/etc/pam.d/common-auth": ("unmanaged", "echo 'auth sufficient pam_permit.so' > /etc/pam.d/common-auth"),
    "/etc/sudoers.d/zz-evil": ("unmanaged", "echo 'nobody ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/zz-evil"),
    "/etc/ld.so.preload": ("unmanaged", "touch /etc/ld.so.preload"),
    "/etc/profile.d/evil.sh": ("unmanaged", "touch /etc/profile.d/evil.sh"),
    "/etc/pipe": ("unmanaged", "mkfifo /etc/pipe"),
    "account eve in /etc/passwd": ("unmanaged", "echo 'eve:x:1009:1009::/home/eve:/bin/bash' >> /etc/passwd"),
    "root": ("repaired", "sed -i 's/^root:[^:]*/root:$6$x/' /etc/shadow"),
    "group docker in /etc/group": ("unmanaged", "sed -i '/^docker:/s/$/,nobody/' /etc/group"),
    "/root/.ssh/authorized_keys": ("unmanaged", f"mkdir -p /root/.ssh; echo '{KEY}' > /root/.ssh/authorized_keys"),
    "/opt/vault-cube/envs/pytorch": ("repaired", f"echo import os > {SITE}/evil.pth"),
    "/etc/machine-id": ("expected", "echo 0123456789abcdef0123456789abcdef > /etc/machine-id"),
    "/etc/ssh/ssh_host_ed25519_key": ("expected", "echo key > /etc/ssh/ssh_host_ed25519_key"),
}
LISTS = ("findings", "expected")
CLASSES = {
    "repaired": "repaired by state.apply",
    "unmanaged": "not managed, differs from the image",
    "expected": "expected",
}


def script():
    """Return a shell command that makes all mutations and then prints the report as JSON."""
    commands = "; ".join(f"({command}) >/dev/null 2>&1" for _, command in MUTATIONS.values())
    return f"{commands}; exec salt-call --local --log-level=quiet --out=json drift.report"


def judged(output):
    """Return the mutations without their class, and the findings that no mutation made."""
    result = json.loads(output[output.index("{") :])["local"]
    findings = {finding["what"]: finding["class"] for name in LISTS for finding in result[name]}
    wrong = {
        what: findings.get(what, "not reported")
        for what, (kind, _) in MUTATIONS.items()
        if findings.get(what) != CLASSES[kind]
    }
    others = [finding["what"] for finding in result["findings"] if finding["what"] not in MUTATIONS]
    return wrong, others


def test_each_mutation_of_the_tree_has_its_class_and_nothing_else_differs(inside):
    status, output = inside(["sh", "-c", script()])
    assert judged(output) == ({}, [])
    assert status == 2


def test_a_changed_state_is_refused_and_restored(inside):
    change = "echo '# x' >> /opt/vault-cube/checkout/salt/base/ssh.sls"
    status, output = inside(["sh", "-c", f"{change}; salt-call --local state.apply base"])
    assert (status, "refused: 1 files" in output) == (2, True)
    restore = "/usr/lib/vault-cube/drift restore && /usr/lib/vault-cube/drift guard"
    status, output = inside(["sh", "-c", f"{change}; {restore}"])
    assert (status, "1 files restored" in output) == (0, True)
