"""The changes of mutations.yaml, each a function of the tree and the change's fields."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import box

Change = Mapping[str, Any]


def _write(file: Path, change: Change) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # in place: mode and owner stay
    with file.open("w", encoding="utf-8") as out:
        out.write(change["text"])


def _add(file: Path, change: Change) -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write(f"{change['text']}\n")


def _same(file: Path, change: Change) -> None:
    status = file.stat()
    assert len(change["text"]) == status.st_size, "the new content must have the same size"
    file.write_text(change["text"])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replace(file: Path, change: Change) -> None:
    text = file.read_text()
    assert change["old"] in text
    file.write_text(text.replace(change["old"], change["text"]))


def _remove(file: Path, change: Change) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink()


def _link(file: Path, change: Change) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to(change["target"])


def _byte_code(file: Path, change: Change) -> None:
    target = Path(importlib.util.cache_from_source(str(file)))
    source = file.with_name("other.py") if "text" in change else file
    if "text" in change:
        source.write_text(change["text"])
    py_compile.compile(str(source), str(target), dfile=str(file), doraise=True)
    if source != file:
        source.unlink()
        if not file.exists():
            file.write_text(change["text"])
    if change.get("damaged"):
        target.write_bytes(target.read_bytes()[:20] + b"\xff" * 40)


def _capability(file: Path, change: Change) -> None:
    # struct vfs_cap_data of linux/capability.h: VFS_CAP_REVISION_2 with the effective flag, CAP_NET_ADMIN
    os.setxattr(file, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 12, 0, 0, 0))


def _rewrite(file: Path, change: Change) -> None:
    copy = file.with_name("copy")
    shutil.copy2(file, copy)
    copy.replace(file)


FILE_CHANGES: Mapping[str, Callable[[Path, Change], object]] = {
    "write": _write,
    "add": _add,
    "same": _same,
    "replace": _replace,
    "remove": _remove,
    "link": _link,
    "byte_code": _byte_code,
    "capability": _capability,
    "rewrite": _rewrite,
    "folder": lambda file, _: file.mkdir(),
    "chmod": lambda file, change: file.chmod(change["mode"]),
    "chown": lambda file, change: os.chown(file, change["uid"], -1),
    "xattr": lambda file, change: os.setxattr(file, change["name"], change["value"].encode()),
    "device": lambda file, _: os.mknod(file, 0o20666, os.makedev(1, 3)),
    "pipe": lambda file, _: os.mkfifo(file),
    "touch": lambda file, _: os.utime(file, (1, 1)),
}
VERSIONS = {name: version for name, (version, _) in box.PACKAGES.items()}


def _uninstall(root: Path, name: str) -> None:
    for path in box.PACKAGES[name][1]:
        (root / path).unlink()
    for file in (root / "var/lib/dpkg/info").glob(f"{name}.*"):
        file.unlink()
    box.write_status(root, {other: version for other, version in VERSIONS.items() if other != name})


def _install(root: Path, name: str, version: str) -> None:
    box.write_status(root, {**VERSIONS, name: version})
    if name in box.PACKAGES:
        box.write_package(root, name, version)


def apply(root: Path, change: Change) -> None:
    """Make one change in the tree."""
    verb, value = next(iter(change.items()))
    if verb == "uninstall":
        _uninstall(root, value)
    elif verb == "install":
        _install(root, value, change["version"])
    elif verb != "holds":
        FILE_CHANGES[verb](root / value, change)
