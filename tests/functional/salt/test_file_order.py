"""Every file that the states write into a `*.d` folder takes precedence over the distribution's files there."""

from pathlib import PurePosixPath

import pytest
from distribution_files import FOLDERS, is_drop_in_folder, known, losing
from rendered import TARGETS, files

BEFORE_THE_FIX = {
    # former names of our files, and the file of the distribution that took, or would have taken, precedence
    "/etc/cloud/cloud.cfg.d/90-vault-cube.cfg": "90_dpkg.cfg",
    "/etc/cloud/cloud.cfg.d/99-vault-cube.cfg": "subiquity-disable-cloudinit-networking.cfg",
    "/etc/systemd/journald.conf.d/60-vault-cube.conf": "syslog.conf",
    "/etc/apt/apt.conf.d/60vault-cube": "70debconf",
    "/etc/sudoers.d/60-vaultadmin": "90-cloud-init-users",
    "/etc/systemd/network/80-vault-cube.network": "80-container-host0.network",
    "/etc/apt/preferences.d/vault-cube-kernel": "ubuntu-pro-esm-apps",
    "/etc/tmpfiles.d/vault-cube-pcie.conf": "systemd.conf",
    "/etc/udev/rules.d/71-vault-cube-nvidia.rules": "99-systemd.rules",
    "/etc/ssh/sshd_config.d/99-vault-cube.conf": "50-cloud-init.conf",
    "/etc/sysctl.d/60-vault-cube.conf": "99-protect-links.conf",
    "/etc/fail2ban/jail.d/00-vault-cube.conf": "defaults-debian.conf",
    "/etc/modules-load.d/modules.conf": "modules.conf",
    "/etc/initramfs-tools/conf.d/modules": "resume",
}


def drop_ins(salt_of, target):
    paths = [PurePosixPath(path) for path in files(salt_of(target))]
    return [(str(path.parent), path.name) for path in paths if is_drop_in_folder(str(path.parent))]


@pytest.mark.parametrize("target", TARGETS)
def test_all_files_of_ours_take_precedence(salt_of, target):
    ours = drop_ins(salt_of, target)
    assert len(ours) > 10
    unknown = {folder for folder, _ in ours} - FOLDERS.keys()
    assert not unknown, f"add these folders and their rule to tests/distribution_files.yaml: {unknown}"
    lost = {f"{folder}/{name}": losing(folder, name, known(folder)) for folder, name in ours}
    assert {path: to for path, to in lost.items() if to} == {}


@pytest.mark.parametrize("path", BEFORE_THE_FIX)
def test_a_file_without_precedence_is_reported(path):
    folder, _, name = path.rpartition("/")
    assert BEFORE_THE_FIX[path] in losing(folder, name, known(folder))
