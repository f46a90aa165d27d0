"""The manifest of a tree, one line per file, from which digests, comparisons and damage reports are made.

Each line has the fields of `Line`, separated by spaces. The extended attributes of overlayfs are left out, so that the
manifest does not depend on the machine that made the layer.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

OVERLAY_XATTR = "trusted.overlay."
KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFLNK: "l",
    stat.S_IFDIR: "d",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}


class Line(NamedTuple):
    """The entry of one file."""

    path: str
    """Path in the tree, quoted as in a URL."""
    type: str
    """A letter, as in KINDS."""
    mode: int
    owner: str
    """User and group identifier, `uid:gid`."""
    size: int
    """Size of a regular file in bytes, also of a further hard link; 0 for all others."""
    mtime: int
    """Modification time, nanoseconds since 1970."""
    content: str
    """SHA-256 of a file, target of a symbolic link, `major,minor` of a device, `=path` for a hard link, or `-`."""
    xattrs: str
    """Extended attributes in hexadecimal, `name=value,name=value`, or `-`."""

    @classmethod
    def parse(cls, text: str) -> Line:
        """Read a line. Raises ValueError if it has missing or additional fields."""
        path, kind, mode, owner, size, mtime, content, xattrs = text.split(" ")
        return cls(path, kind, int(mode, 8), owner, int(size), int(mtime), content, xattrs)

    def format(self) -> str:
        """Return the text of the line."""
        return (
            f"{self.path} {self.type} {self.mode:o} {self.owner} {self.size} {self.mtime} {self.content} {self.xattrs}"
        )

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return self.type == "f"

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder."""
        return self.type == "d"

    @property
    def is_hard_link(self) -> bool:
        """Whether this is a further name of a file that another line describes."""
        return self.content.startswith("=")

    @property
    def is_private(self) -> bool:
        """Whether the mode gives other users no access, as that of a host key or of the shadow file."""
        return self.mode & 0o007 == 0


SMALL = 1 << 18
"""Bytes; smaller files are read with one call."""
TOGETHER = 500
"""Number of files that a thread processes at a time."""


def entries(tree: Path) -> list[str]:
    """Make the manifest of a tree, sorted by path; the line of the top folder has the path `.`."""
    top = str(tree)
    files: list[tuple[str, os.stat_result]] = []

    def walk(folder: str, prefix: str) -> None:
        with os.scandir(folder) as listing:
            for item in listing:
                status = item.stat(follow_symlinks=False)
                files.append((prefix + item.name, status))
                if stat.S_ISDIR(status.st_mode):
                    walk(item.path, prefix + item.name + "/")

    walk(top, "")
    files.append((".", tree.lstat()))
    files.sort(key=lambda pair: pair[0])
    first: dict[int, str] = {}
    for path, status in files:
        if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
            first.setdefault(status.st_ino, path)

    def lines(start: int) -> list[str]:
        part = files[start : start + TOGETHER]
        return [_line(top, path, status, first.get(status.st_ino)) for path, status in part]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [line for part in pool.map(lines, range(0, len(files), TOGETHER)) for line in part]


def _line(tree: str, path: str, status: os.stat_result, linked: str | None) -> str:
    full = f"{tree}/{path}"
    mode = status.st_mode
    size, content = 0, "-"
    if stat.S_ISREG(mode):
        size = status.st_size
        # hash a file with several names only once
        content = f"={quote(linked)}" if linked and linked != path else sha256_of(full, size)
    elif stat.S_ISLNK(mode):
        content = quote(os.readlink(full), safe="/")  # noqa: PTH115 the target is needed exactly as it is written
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        content = f"{os.major(status.st_rdev)},{os.minor(status.st_rdev)}"
    owner = f"{status.st_uid}:{status.st_gid}"
    return Line(
        quote(path, safe="/"), KINDS[stat.S_IFMT(mode)], stat.S_IMODE(mode), owner, size, status.st_mtime_ns, content,
        xattrs_of(full),
    ).format()  # fmt: skip


def sha256_of(path: str, size: int) -> str:
    """Compute the SHA-256 of a file. size: its size in bytes. Raises OSError."""
    with open(path, "rb", buffering=0) as handle:  # noqa: PTH123 Path is slower, and trees have 100,000 files
        # file_digest allocates a buffer of 256 KiB even for small files
        if size < SMALL:
            return hashlib.sha256(handle.readall()).hexdigest()
        return hashlib.file_digest(handle, "sha256").hexdigest()


def xattrs_of(path: str) -> str:
    """Return the extended attributes of a file in the form of `Line.xattrs`. Raises OSError."""
    names = os.listxattr(path, follow_symlinks=False)
    own = sorted(name for name in names if not name.startswith(OVERLAY_XATTR)) if names else ()
    return ",".join(f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in own) or "-"


def digest(lines: list[str]) -> str:
    """Compute the SHA-256 of a manifest; trees with equal digests are identical byte for byte."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def differences(before: list[str], after: list[str]) -> list[str]:
    """List the differences between two manifests, one line per path: `- path`, `+ path`, or `~ path: fields`."""
    # a damaged manifest may have lines with missing fields, so that they cannot be parsed
    divided = ([line.partition(" ") for line in lines] for lines in (before, after))
    old, new = ({path: rest.split(" ") for path, _, rest in lines} for lines in divided)
    out = []
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            out.append(f"- {path}")
        elif path not in old:
            out.append(f"+ {path}")
        elif old[path] != new[path]:
            pairs = zip_longest(Line._fields[1:], old[path], new[path])
            names = [name or "extra field" for name, a, b in pairs if a != b]
            out.append(f"~ {path}: {', '.join(names)}")
    return out


def parse(lines: Iterable[str]) -> list[Line]:
    """Read a manifest. Raises ValueError if a line is damaged."""
    return [Line.parse(line) for line in lines]


def tree_bytes(lines: Iterable[Line]) -> int:
    """Sum the file sizes in a tree, in bytes; a file with several hard links counts once."""
    return sum(line.size for line in lines if not line.is_hard_link)


def linked_bytes(lines: Iterable[Line]) -> int:
    """Return the bytes that hard links save in a tree: each file's size times the number of its additional names."""
    return sum(line.size for line in lines if line.is_hard_link)
