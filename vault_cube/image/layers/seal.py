"""Seal: what makes a layer anonymous and the same at each build; small steps, each with its reason, safe to repeat.

It works on the folder that a layer wrote, after Salt has ended and before the layer is kept, so that no step copies
a file up from the layers below, and so that it can clean up after Salt itself (see docs/decisions/seal-in-python.md).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

Step = Callable[[Path, int], None]


def seal(tree: Path, epoch: int) -> None:
    """Run all steps on a tree or a layer's folder. epoch: the lock's moment, seconds since 1970."""
    for one in STEPS:
        one(tree, epoch)


def _remove(tree: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in tree.glob(pattern):
            if not _own(tree, path.parent):
                continue
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
            # a character device is a whiteout: the layer removed it itself


def _own(tree: Path, path: Path) -> bool:
    """Whether a path is really in the tree: a link on the way would lead out of it, to this machine's files."""
    while path != tree:
        if path.is_symlink():
            return False
        path = path.parent
    return True


def machine_identity(tree: Path, epoch: int) -> None:
    """ssh host keys, machine-id and random seeds are a machine's own: made at first boot."""
    _remove(tree, "etc/ssh/ssh_host_*", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed",
            "var/lib/systemd/credential.secret", "etc/.pwd.lock", "etc/hostid")  # fmt: skip
    machine_id = tree / "etc/machine-id"
    if machine_id.is_file() and _own(tree, machine_id):
        machine_id.write_text("")  # empty: systemd fills it at first boot


def build_residue(tree: Path, epoch: int) -> None:
    """What only the build needed: its policy against starting daemons, apt's downloads and lists, salt's traces."""
    _remove(tree, "usr/sbin/policy-rc.d", "var/lib/apt/lists/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb",
            "etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
            "var/cache/salt", "var/log/salt", "etc/salt/minion_id", "etc/salt/pki", "etc/salt/minion.d/_schedule.conf",
            "root/.cache", "root/.bash_history", "var/lib/cloud/*")  # fmt: skip


def backups(tree: Path, epoch: int) -> None:
    """Copies that tools keep of what they changed depend on how often they ran."""
    _remove(tree, "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
            "var/lib/dpkg/*-old", "var/lib/dpkg/lock*", "var/lib/dpkg/triggers/Lock", "var/cache/debconf/*-old",
            "var/lib/ucf/*.[0-9]", "etc/.resolv.conf.systemd-resolved.bak", "var/backups/*")  # fmt: skip


def caches(tree: Path, epoch: int) -> None:
    """Caches that hold inode numbers and times; they are made again where they are used."""
    _remove(tree, "var/cache/ldconfig/aux-cache", "var/cache/man/*", "var/cache/fontconfig/*", "var/lib/mlocate/*",
            "var/lib/systemd/catalog/database", "tmp/*", "var/tmp/*")  # fmt: skip


def logs(tree: Path, epoch: int) -> None:
    """Logs tell of the build, not of the box; folders, and the files that daemons need to find, stay."""
    log = tree / "var/log"
    for path in log.rglob("*") if log.is_dir() and _own(tree, log) else ():
        if path.is_file() and not path.is_symlink():
            if path.name in ("wtmp", "btmp", "lastlog"):
                path.write_bytes(b"")
            else:
                path.unlink()


def password_dates(tree: Path, epoch: int) -> None:
    """shadow's third field is the day of the last change: the lock's day; 0 asks for a new password, and stays."""
    shadow = tree / "etc/shadow"
    if shadow.is_file() and _own(tree, shadow):
        day = str(epoch // 86400)
        lines = [line.split(":") for line in shadow.read_text().splitlines()]
        shadow.write_text(
            "".join(":".join([*parts[:2], "0" if parts[2] == "0" else day, *parts[3:]]) + "\n" for parts in lines)
        )


def uv_traces(tree: Path, epoch: int) -> None:
    """uv notes the times of a wheel's file; the note goes, and its line in RECORD."""
    for note in tree.glob("opt/vault-cube/**/*.dist-info/uv_cache.json"):
        record = note.parent / "RECORD"
        if not _own(tree, record):
            continue
        record.write_text(re.sub(r"^.*/uv_cache\.json,.*\n", "", record.read_text(), flags=re.M))
        note.unlink()


def times(tree: Path, epoch: int) -> None:
    """No time is later than the lock's moment, nor finer than a second; access times are that moment.

    A machine notes who reads a tree, or does not (noatime): mke2fs takes the earlier of that time and the lock's.
    """
    for folder, names, files in os.walk(tree):
        for name in (*names, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 half a million of these
            status = os.lstat(path)
            when = min(int(status.st_mtime), epoch)
            os.utime(path, (epoch, when), follow_symlinks=False)
    os.utime(tree, (epoch, epoch))


STEPS: tuple[Step, ...] = (
    machine_identity, build_residue, backups, caches, logs, password_dates, uv_traces, times,
)  # fmt: skip
