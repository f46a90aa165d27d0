"""QEMU is killed during `state.apply` at ten moments: the guest starts, and one apply repairs everything."""

import os

import pytest
from lasting import LIMIT_S, apply, drift, root

from vault_cube.drift.classes import REPAIRED

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")]

MOMENTS = 10
MARK = "/etc/sysctl.d/99-vault-cube.conf"
"""An immutable file: the first state that changes something takes the attribute away."""
# content, owner, mode, links and removed files of all layers; units, accounts, setuid bits, an environment, packages
HARM = f"""\
sed -i 's/^/#/' {MARK} /etc/ssh/sshd_config.d/00-vault-cube.conf
chattr +i {MARK}
sed -i s/ENABLED=yes/ENABLED=no/ /etc/ufw/ufw.conf
: > /etc/ufw/after.rules
echo '{{}}' > /etc/docker/daemon.json
rm -f /etc/systemd/journald.conf.d/zz-vault-cube.conf /etc/systemd/system/vault-cube-disks.service
rm -rf /etc/vault-cube/monitoring /etc/cloud/cloud.cfg.d/zz-vault-cube.cfg
systemctl --quiet disable fail2ban.service vault-cube-disks.timer
chmod 0777 /var/log/journal
chown nobody /etc/modprobe.d/vault-cube.conf
ln -sf /etc/passwd /etc/modules-load.d/vault-cube.conf
usermod --password '$6$x$y' root
usermod --shell /bin/sh vaultadmin
echo '1.2.3.4 localhost' > /etc/hosts
sed -i /tmpfs/d /etc/fstab
chmod u+s /usr/bin/chfn
touch $(ls -d /opt/vault-cube/envs/*/lib/*/site-packages | head -n 1)/stray.pth
sed -i '/^Package: \\(less\\|nano\\)$/{{n; s/ installed$/ half-configured/}}' /var/lib/dpkg/status
sync
"""
APPLY = f"""\
systemd-run --quiet --collect --unit=killed-apply /usr/local/bin/salt-call --local --log-level=quiet state.apply
while lsattr {MARK} | cut -d' ' -f1 | grep -q i; do sleep 0.1; done
"""


def not_repaired(box):
    """The findings that `state.apply` would repair, and those that no harm and no kill explains."""
    report, findings = drift(box)
    failed = [finding for finding in report["unjudged"] if finding["what"] != "clock"]
    return [finding for finding in findings if finding[0] == REPAIRED], failed


@pytest.fixture(scope="module")
def duration_s(disk):
    """Seconds from the first change of an apply to its end, without a kill."""
    box = disk.start()
    root(box, HARM)
    begin, end = "date +%s.%N", "while systemctl is-active --quiet killed-apply; do sleep 0.2; done; date +%s.%N"
    times = root(box, f"{APPLY}{begin}\n{end}", LIMIT_S).split()
    assert apply(box) == ({}, [])
    assert not_repaired(box) == ([], [])
    return float(times[1]) - float(times[0])


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_one_apply_repairs_what_a_killed_one_has_left(disk, duration_s, moment):
    box = disk.box or disk.start()
    root(box, HARM)
    wait_s = duration_s * (moment + 0.3) / MOMENTS
    state = root(box, f"{APPLY}sleep {wait_s:.2f}\nsystemctl is-active killed-apply || :", LIMIT_S)
    assert state == "active"
    disk.lose_power()
    # start() fails if the guest reboots by itself
    box = disk.start()
    assert "recovering journal" in root(box, "cat /run/initramfs/fsck.log")
    failed, changed = apply(box)
    assert failed == {}
    print(f"{wait_s:.1f} s after the first change: {len(changed)} states had to be applied again")
    if moment % 3 and moment < MOMENTS - 1:
        return  # a report takes as long as an apply
    assert not_repaired(box) == ([], [])
