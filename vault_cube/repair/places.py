"""Find and remove what keeps a state from writing its files, or lets others write them.

Attributes of chattr(1), access control lists, links and folders in the place of files; folders above a file that
somebody else may write to, by the rule of sshd's StrictModes (sshd_config(5)).
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import stat
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# linux/fs.h
GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
# linux/posix_acl_xattr.h: a header, then entries of tag, permissions, id
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
ACL_HEADER, ACL_ENTRY, OWNING_GROUP = 4, struct.Struct("<HHI"), 0x04
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
LARGEST = 1 << 20  # bytes of a link's target that are kept; no file that a state writes is larger

FREE_BYTES, FREE_INODES = 16 << 20, 200
"""What a file system must have left for states to be applied: room for all files that they write, many times over."""


@dataclass
class Places:
    """The paths that states write."""

    files: set[str] = field(default_factory=set)
    """Paths that must be regular files."""
    links: set[str] = field(default_factory=set)
    """Paths that must not be folders, because a link replaces a file only."""
    declared: set[str] = field(default_factory=set)
    """Folders and links whose owner and mode a state sets."""
    owners: dict[str, set[int]] = field(default_factory=dict)
    """The user ids that a folder above them may belong to."""
    made: set[str] = field(default_factory=set)
    """Folders that a state makes."""
    with_acls: set[str] = field(default_factory=set)
    """Folders that may have access control lists."""

    def add(self, path: str, owner: int = 0, *, regular: bool) -> None:
        """Add a path. owner: its user id. regular: whether it must be a regular file."""
        (self.files if regular else self.declared).add(path)
        for above in Path(path).parents:
            self.owners.setdefault(str(above), {0}).add(owner)


def written_by(chunks: Iterable[Mapping[str, Any]]) -> Places:
    """Return the paths that states write. chunks: Salt's low state."""
    places = Places()
    for chunk in chunks:
        name, function = str(chunk.get("name", "")), f"{chunk.get('state')}.{chunk.get('fun')}"
        if not name.startswith("/"):
            continue
        owner = _user_id(chunk.get("user", 0))
        if function in ("file.managed", "file.serialize", "keyring.present") or function.startswith("shared."):
            places.add(name, owner, regular=True)
        elif function in ("file.directory", "file.symlink"):
            places.add(name, owner, regular=False)
            (places.links if function == "file.symlink" else places.made).add(name)
        if chunk.get("makedirs"):
            places.made.update(str(above) for above in Path(name).parents)
    return places


def problems(places: Places) -> dict[str, str]:
    """Return what is wrong, by path."""
    wrong = {}
    for name in sorted({*places.files, *places.declared, *places.owners}):
        path = Path(name)
        kinds = _problems(path, places) if os.path.lexists(path) else _absence(path, places)
        if kinds:
            wrong[name] = " and ".join(kinds)
    return wrong


def _absence(path: Path, places: Places) -> list[str]:
    # the folders of other trees come with their packages
    name = str(path)
    return ["missing"] if name in places.owners and name not in places.made and path.is_relative_to("/etc") else []


def _problems(path: Path, places: Places) -> list[str]:
    """List what is wrong with an existing path."""
    status, name = path.lstat(), str(path)
    regular, folder = stat.S_ISREG(status.st_mode), stat.S_ISDIR(status.st_mode)
    kinds = []
    if (name in places.files and not regular) or (name in places.links and folder):
        kinds.append(_kind(path, status.st_mode))
    if regular or folder:
        flags = _flags(path) or 0
        kinds += [kind for flag, kind in ((IMMUTABLE, "immutable"), (APPEND_ONLY, "append-only")) if flags & flag]
        if name not in places.with_acls and _acls(path):
            kinds.append("an access control list")
    if folder and name in places.owners and name not in places.declared:
        if status.st_uid not in places.owners[name]:
            kinds.append(f"owned by user id {status.st_uid}")
        if status.st_mode & OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            kinds.append(f"writable by others ({stat.S_IMODE(status.st_mode):04o})")
    return kinds


def repair(places: Places) -> None:
    """Remove what `problems` reports. Raises OSError.

    A link is replaced by a file with the content of its target, anything else is moved aside.
    """
    # folders first, because nothing can be written in an immutable one
    for name in problems(places):
        path = Path(name)
        if not os.path.lexists(path):
            path.mkdir(mode=0o755, parents=True)
            path.chmod(0o755)
            continue
        status = path.lstat()
        regular, folder = stat.S_ISREG(status.st_mode), stat.S_ISDIR(status.st_mode)
        if regular or folder:
            flags = _flags(path)
            if flags and flags & (IMMUTABLE | APPEND_ONLY):
                _flags(path, flags & ~(IMMUTABLE | APPEND_ONLY))
            if name not in places.with_acls:
                _drop_acls(path)
        if folder and name in places.owners and name not in places.declared:
            if status.st_uid not in places.owners[name]:
                os.chown(path, 0, 0)
            if not status.st_mode & stat.S_ISVTX:
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS_WRITE)
        if name in places.files and stat.S_ISLNK(status.st_mode):
            _replace_link(path)
        elif (name in places.files and not regular) or (name in places.links and folder):
            move_aside(path)


def writable(folder: Path) -> str:
    """Return why nothing can be written to a folder's file system; empty if it can."""
    figures = os.statvfs(folder)
    if figures.f_flag & os.ST_RDONLY:
        return f"{folder}: the file system is read-only: see `dmesg` for the reason, then `sudo mount -o remount,rw /`"
    if figures.f_bavail * figures.f_frsize < FREE_BYTES or (figures.f_files and figures.f_ffree < FREE_INODES):
        return (
            f"{folder}: the file system is full: make room, such as with `sudo apt-get clean`, "
            "`sudo journalctl --vacuum-size=100M` or `docker system prune`"
        )
    return ""


def _user_id(user: str | int) -> int:
    """Return a user's id; root's for a user that does not exist yet."""
    with suppress(KeyError):
        return int(user) if str(user).isdigit() else pwd.getpwnam(str(user)).pw_uid
    return 0


def blocking(places: Places) -> list[str]:
    """List the pipes, sockets and devices in the place of files: whoever opened one could wait for ever."""
    return [name for name in sorted(places.files) if os.path.lexists(name) and _blocks(Path(name))]


def _blocks(path: Path) -> bool:
    with suppress(OSError):  # a link that leads nowhere
        mode = path.stat().st_mode
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return False


def move_aside(path: Path) -> None:
    """Rename a file, so that a state can write another in its place. Raises OSError."""
    aside = path.with_name(f"{path.name}.moved")
    if aside.is_dir():
        shutil.rmtree(aside)
    path.replace(aside)


def _kind(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return f"a link to {path.readlink()}"
    return "a folder" if stat.S_ISDIR(mode) else "not a regular file"


def _flags(path: Path, new: int | None = None) -> int | None:
    """Read, or set, the attributes of chattr(1). Returns None if the file system has none."""
    with suppress(OSError):
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            if new is not None:
                fcntl.ioctl(opened, SET_FLAGS, struct.pack("l", new))
            return int(struct.unpack("l", fcntl.ioctl(opened, GET_FLAGS, struct.pack("l", 0)))[0])
        finally:
            os.close(opened)
    return None


def _acls(path: Path) -> list[str]:
    with suppress(OSError):
        return [name for name in os.listxattr(path, follow_symlinks=False) if name in ACLS]
    return []


def _drop_acls(path: Path) -> None:
    """Remove a file's lists. The group keeps its own permissions, not those of the list's mask."""
    for name in _acls(path):
        data = os.getxattr(path, name)
        entries = [ACL_ENTRY.unpack_from(data, at) for at in range(ACL_HEADER, len(data), ACL_ENTRY.size)]
        os.removexattr(path, name)
        if name == ACLS[0]:
            group = next((permissions for tag, permissions, _ in entries if tag == OWNING_GROUP), 0)
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o070 | group << 3)


def _replace_link(path: Path) -> None:
    """Put a regular file in the place of a link: a copy of its target, or an empty one."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(path.read_bytes() if path.is_file() and path.stat().st_size <= LARGEST else b"")
    # the state that owns the file sets its mode
    new.chmod(0o600)
    new.replace(path)
