"""A guest whose QEMU is killed starts again: the initial RAM disk checks its root, and no second reboot follows."""

import os
import time

import pytest
from lasting import root

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")]

BUSY = """\
systemd-run --quiet --unit=busy sh -c '
  mkdir -p /var/busy; n=0
  while :; do n=$((n + 1)); cp -r /etc /var/busy/$n; rm -rf /var/busy/$((n - 3)); sync /var/busy/$n/passwd; done'
"""
# marks the file system as damaged: the next check is a full one and changes it, for which fsck ends with 1
DAMAGED = "echo test > /sys/fs/ext4/$(basename $(findmnt -no SOURCE /))/trigger_fs_error"
CHECKED = """\
cat /run/initramfs/fsck.log
echo "end of the log"
systemctl show --property=ConditionResult --value systemd-fsck-root.service
tune2fs -l $(findmnt -no SOURCE /) | sed -n 's/^Filesystem state: *//p'
findmnt -no OPTIONS / | tr , '\\n' | grep -x rw
systemctl list-units --failed --plain --no-legend
"""


@pytest.mark.parametrize(
    ("before", "seen"), [(BUSY, "recovering journal"), (f"{BUSY}{DAMAGED}\n", "check forced")],
    ids=["while it writes", "with a damaged file system"],
)  # fmt: skip
def test_a_guest_that_lost_its_power_starts_at_once(disk, before, seen):
    box = disk.box or disk.start()
    root(box, before)
    time.sleep(10)
    disk.lose_power()
    # start() fails if the guest reboots by itself
    log, _, state = root(disk.start(), CHECKED).partition("end of the log\n")
    assert seen in log
    # systemd does not check the root again, after which it would reboot
    assert state.splitlines() == ["no", "clean", "rw"], state
