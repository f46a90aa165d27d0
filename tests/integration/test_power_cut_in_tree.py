"""The power goes during `state.apply` at ten moments: the file system is checked, and one apply repairs everything.

The box's changes are on an ext4 of their own, above the image's layers. EXT4_IOC_SHUTDOWN stops it at once and drops
what was not flushed, as a power cut does; xfstests use it for that. tests/boot/own_network kills QEMU, which is slower.
"""

import ctypes
import fcntl
import json
import os
import re
import struct
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
import test_layers_in_tree as in_tree
from base_tree import output_in

from vault_cube.drift.classes import REPAIRED
from vault_cube.image.cache import keys
from vault_cube.image.layers import chroot
from vault_cube.image.workspace import LAYERS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: needs root")]
# the fixtures of that file
space, trees = in_tree.space, in_tree.trees

MOMENTS = 10
NEW_MOUNTS = 0x00020000  # sched.h: CLONE_NEWNS
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # linux/ext4.h: _IOR('X', 125, __u32)
MARK = "etc/modules-load.d/vault-cube.conf"
"""A link in the place of a file: the first state that changes something replaces it."""
# content, owner, mode, links and removed files of all layers; units, accounts, setuid bits, packages. No environment,
# whose repair would copy thousands of files from the layer below
HARM = f"""\
echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/00-vault-cube.conf
rm -f /{MARK} /etc/sysctl.d/99-vault-cube.conf /etc/systemd/journald.conf.d/zz-vault-cube.conf
ln -s /etc/hostname /{MARK}
sed -i s/ENABLED=yes/ENABLED=no/ /etc/ufw/ufw.conf
: > /etc/ufw/after.rules
echo '{{}}' > /etc/docker/daemon.json
rm -rf /etc/vault-cube/monitoring /etc/systemd/system/vault-cube-disks.service /etc/cloud/cloud.cfg.d/zz-vault-cube.cfg
systemctl --quiet disable fail2ban.service vault-cube-disks.timer
chmod 0777 /etc/sudoers.d
chown nobody /etc/modprobe.d/vault-cube.conf
usermod --password '$6$x$y' root
usermod --shell /bin/sh vaultadmin
sed -i /tmpfs/d /etc/fstab
chmod u+s /usr/bin/chfn
sed -i '/^Package: \\(less\\|nano\\)$/{{n; s/ installed$/ half-configured/}}' /var/lib/dpkg/status
sync
"""
APPLY = "salt-call --local --log-level=quiet state.apply >/dev/null 2>&1 || :\n"
REPAIR = """\
salt-call --local --log-level=quiet --out=json state.apply || :
echo ===
salt-call --local --log-level=quiet --out=json drift.report || :
"""


class Disk:
    """An ext4 in a file, with the changes to the image's layers."""

    def __init__(self, lower, folder):
        self.lower, self.folder = lower, folder
        # in memory, because each flush of a disk takes long; what is not flushed is lost in any case
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
        for name in ("disk", "merged"):
            (folder / name).mkdir()
        with (folder / "ext4").open("wb") as file:
            file.truncate(2 << 30)
        subprocess.run(["mkfs.ext4", "-q", folder / "ext4"], check=True)
        self.runs = 0

    @contextmanager
    def mounted(self):
        """Check the file system as the initial RAM disk does, and mount it. Gives the output of fsck."""
        check = subprocess.run(["fsck.ext4", "-p", self.folder / "ext4"], capture_output=True, text=True, check=False)
        assert check.returncode in (0, 1), check.stdout
        # here an apply takes about as long as the 5 s between two commits, of which nothing would be left
        subprocess.run(["mount", "-o", "loop,commit=1", self.folder / "ext4", self.folder / "disk"], check=True)
        try:
            for name in ("upper", "work"):
                (self.folder / "disk" / name).mkdir(exist_ok=True)
            yield check.stdout
        finally:
            subprocess.run(["umount", self.folder / "disk"], check=True)

    def sh(self, script):
        """Run a shell script in the tree. Returns its output."""
        self.runs += 1
        log = self.folder / f"log-{self.runs}"
        tree = chroot.Overlay(self.lower, self.folder / "disk/upper", self.folder / "disk/work")
        words = ["sh", "-euc", script]
        chroot.run(tree, words, what="sh", log=log, mountpoint=self.folder / "merged", check=False)
        return output_in(log, words)

    def has_begun(self):
        """Whether the first state has changed something."""
        path = self.folder / "disk/upper" / MARK
        return path.exists() and not path.is_symlink()

    def lose_power(self):
        opened = os.open(self.folder / "disk", os.O_RDONLY)
        try:
            fcntl.ioctl(opened, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(opened)

    def apply(self, cut_after_s=None):
        """Apply all states. cut_after_s: from the first change to a power cut. Returns seconds until the end."""
        thread = threading.Thread(target=self.sh, args=[APPLY])
        thread.start()
        while not self.has_begun():
            assert thread.is_alive()
            time.sleep(0.01)
        begin = time.monotonic()
        if cut_after_s is not None:
            time.sleep(cut_after_s)
            assert thread.is_alive(), "the apply had ended"
            self.lose_power()
        thread.join()
        return time.monotonic() - begin


@pytest.fixture(scope="module")
def own_mounts():
    """Mounts of this thread that no other process sees, which end with it; a copy would keep the disk in use."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    try:
        assert libc.unshare(NEW_MOUNTS) == 0, os.strerror(ctypes.get_errno())
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        yield
        assert libc.setns(before, NEW_MOUNTS) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(before)


@pytest.fixture(scope="module")
def disk(space, trees, tmp_path_factory, own_mounts):
    if LAYERS[-1] not in trees:
        pytest.skip(f"{space.target}: a layer is missing or out of date: run `make image`")
    return Disk([trees[name] for name in keys.ORDER], tmp_path_factory.mktemp("power"))


def is_repaired(disk):
    applied, reported = (json.loads(part[part.index("{") :])["local"] for part in disk.sh(REPAIR).split("===\n"))
    assert [state["comment"] for state in applied.values() if state["result"] is False] == []
    found = [finding for finding in reported["findings"] if finding["class"] == REPAIRED]
    unjudged = [finding for finding in reported["unjudged"] if finding["what"] != "clock"]
    assert (found, unjudged) == ([], [])
    return len([state for state in applied.values() if state["changes"]]), reported["findings"]


@pytest.fixture(scope="module")
def duration_s(disk):
    """Seconds from the first change to the end of an apply that is not disturbed."""
    with disk.mounted():
        disk.sh(HARM)
        seconds = disk.apply()
        assert is_repaired(disk) == (0, [])
    return seconds


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_one_apply_repairs_what_a_power_cut_has_left(disk, duration_s, moment):
    wait_s = duration_s * (moment + 0.3) / MOMENTS
    with disk.mounted():
        disk.sh(HARM)
        disk.apply(wait_s)
    with disk.mounted() as checked:
        assert re.search("recovering journal", checked), checked
        changed, findings = is_repaired(disk)
        print(f"{wait_s:.2f} s after the first change: {changed} states applied again; {findings}")
        assert changed
        assert findings == []
