"""Seal a layer: remove everything that identifies a machine or differs between two builds. All steps are idempotent.

The steps work on the layer's own folder after Salt has ended, before the layer is stored. So no step copies a file up
from the layers below, and the traces of Salt itself can be removed, too (see docs/decisions/seal-in-python.md).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

Step = Callable[[Path, int], None]


def seal(tree: Path, epoch: int) -> None:
    """Run all steps on a tree or a layer's folder. epoch: the lock's timestamp, seconds since 1970."""
    for step in STEPS:
        step(tree, epoch)


def _remove(tree: Path, *patterns: str) -> None:
    """Remove the files and folders in a tree that match glob patterns."""
    for pattern in patterns:
        for path in tree.glob(pattern):
            if not _own(tree, path.parent):
                continue
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
            # a character device is a whiteout, which records that the layer removed the file: leave it


def _own(tree: Path, path: Path) -> bool:
    """Return whether a path is in the tree; a symbolic link above it could lead to files of this machine."""
    while path != tree:
        if path.is_symlink():
            return False
        path = path.parent
    return True


def machine_identity(tree: Path, epoch: int) -> None:
    """Remove what identifies a machine: ssh host keys, machine-id, random seeds. The first boot generates them."""
    _remove(tree, "etc/ssh/ssh_host_*", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed",
            "var/lib/systemd/credential.secret", "etc/.pwd.lock", "etc/hostid")  # fmt: skip
    machine_id = tree / "etc/machine-id"
    if machine_id.is_file() and _own(tree, machine_id):
        machine_id.write_text("")  # empty, not missing: systemd writes the identifier at first boot


def build_residue(tree: Path, epoch: int) -> None:
    """Remove what only the build needed: the policy that blocks daemons, apt's downloads and lists, Salt's files."""
    _remove(tree, "usr/sbin/policy-rc.d", "var/lib/apt/lists/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb",
            "etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
            "var/cache/salt", "var/log/salt", "etc/salt/minion_id", "etc/salt/pki", "etc/salt/minion.d/_schedule.conf",
            "root/.cache", "root/.bash_history", "var/lib/cloud/*")  # fmt: skip


def backups(tree: Path, epoch: int) -> None:
    """Remove backup copies of changed files; their content depends on how often a tool ran."""
    _remove(tree, "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
            "var/lib/dpkg/*-old", "var/lib/dpkg/lock*", "var/lib/dpkg/triggers/Lock", "var/cache/debconf/*-old",
            "var/lib/ucf/*.[0-9]", "etc/.resolv.conf.systemd-resolved.bak", "var/backups/*")  # fmt: skip


def caches(tree: Path, epoch: int) -> None:
    """Remove caches that contain inode numbers or times; programs generate them again when needed."""
    _remove(tree, "var/cache/ldconfig/aux-cache", "var/cache/man/*", "var/cache/fontconfig/*", "var/lib/mlocate/*",
            "var/lib/systemd/catalog/database", "tmp/*", "var/tmp/*")  # fmt: skip


def logs(tree: Path, epoch: int) -> None:
    """Remove logs, which describe the build and not the box; keep folders, and empty the files that daemons require."""
    log = tree / "var/log"
    for path in log.rglob("*") if log.is_dir() and _own(tree, log) else ():
        if path.is_file() and not path.is_symlink():
            if path.name in ("wtmp", "btmp", "lastlog"):
                path.write_bytes(b"")
            else:
                path.unlink()


def password_dates(tree: Path, epoch: int) -> None:
    """Set the day of the last password change, the third field in shadow, to the lock's day.

    0, which requires a new password at the next login, stays.
    """
    shadow = tree / "etc/shadow"
    if shadow.is_file() and _own(tree, shadow):
        day = str(epoch // 86400)
        lines = [line.split(":") for line in shadow.read_text().splitlines()]
        shadow.write_text(
            "".join(":".join([*parts[:2], "0" if parts[2] == "0" else day, *parts[3:]]) + "\n" for parts in lines)
        )


def uv_traces(tree: Path, epoch: int) -> None:
    """Remove uv_cache.json, in which uv records times of a wheel's file, and its line in RECORD.

    Also remove the lock of Salt's environment: uv makes it writable for everybody, and it is root's environment.
    """
    _remove(tree, "opt/vault-cube/salt/.lock")
    for cache_info in tree.glob("opt/vault-cube/**/*.dist-info/uv_cache.json"):
        record = cache_info.parent / "RECORD"
        if not _own(tree, record):
            continue
        record.write_text(re.sub(r"^.*/uv_cache\.json,.*\n", "", record.read_text(), flags=re.M))
        cache_info.unlink()


def times(tree: Path, epoch: int) -> None:
    """Limit modification times to the lock's timestamp, truncate them to seconds, and set access times to it.

    Access times must be set because they depend on the machine's mount options (noatime), and mke2fs writes the earlier
    of the access time and the lock's timestamp to the disk.
    """
    for folder, names, files in os.walk(tree):
        for name in (*names, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 runs for half a million paths
            status = os.lstat(path)
            mtime = min(int(status.st_mtime), epoch)
            os.utime(path, (epoch, mtime), follow_symlinks=False)
    os.utime(tree, (epoch, epoch))


STEPS: tuple[Step, ...] = (
    machine_identity, build_residue, backups, caches, logs, password_dates, uv_traces, times,
)  # fmt: skip
