"""The layer cache: one folder per key, complete or absent, verified before a layer is built on it.

To verify an entry means to read it and to compare it with its manifest. An entry that was read within the last 24 hours
and since the last boot of this machine is not read again if nothing was written into it. A file's change time
(st_ctime) proves that: only the kernel sets it, and it changes even if a program restores the old modification time.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from vault_cube import process, tree_manifest
from vault_cube.errors import VaultCubeError
from vault_cube.image.progress import note

IN_USE_S = 3600
"""Seconds after its last use during which an entry counts as in use."""

READ_AGAIN_S = 86400
"""Seconds after which an unchanged entry is read again, because disks can lose data."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Meta(TypedDict):
    """The metadata of an entry."""

    name: str
    key: str
    digest: str
    """Digest of the tree's manifest."""
    bytes: int
    inputs: dict[str, str]
    """The inputs of the key, for `image.why`."""


@dataclass(frozen=True)
class Entry:
    """A finished tree in the cache: a layer's overlay folder, a root tree or a tools tree."""

    folder: Path

    @property
    def tree(self) -> Path:
        """The folder of the cached files."""
        return self.folder / "tree"

    @property
    def meta(self) -> Meta:
        """The metadata of the entry. Raises OSError or ValueError if it is incomplete."""
        meta: Meta = json.loads((self.folder / "meta.json").read_text())
        return meta

    def manifest(self) -> list[str]:
        """Read the text lines of the manifest that was written with the tree."""
        return (self.folder / "manifest").read_text().split("\n")

    def lines(self) -> list[tree_manifest.Line]:
        """Read the manifest that was written with the tree. Raises ValueError if it is damaged."""
        return tree_manifest.parse(self.manifest())


class Damaged(VaultCubeError):
    """A cached tree differs from the manifest that was written with it."""


def keep(layers: Path, key: str, tree: Path, name: str, inputs: Mapping[str, str], *, size: int | None = None) -> Entry:
    """Add a finished tree to the cache in one atomic step.

    tree: a folder on the cache's file system; it is moved. inputs: the inputs of the key, for `image.why`. size: disk
    space in bytes; None: the sum of the files' sizes. Returns the new entry, or the existing one if another build was
    faster: layers of that build may already be mounted on it.
    """
    existing = find(layers, key)
    if existing:
        return existing
    staging = tree.parent / f"entry-{name}"
    staging.mkdir()
    tree.rename(staging / "tree")
    before = _written(staging / "tree")
    lines = tree_manifest.entries(staging / "tree")
    (staging / "manifest").write_text("\n".join(lines))
    _note_read(Entry(staging), before)
    meta: Meta = {
        "name": name,
        "key": key,
        "digest": tree_manifest.digest(lines),
        "bytes": tree_manifest.tree_bytes(tree_manifest.parse(lines)) if size is None else size,
        "inputs": dict(inputs),
    }
    (staging / "meta.json").write_text(json.dumps(meta, indent=1))
    # the entry appears under its name by one rename at the end: a killed build leaves no incomplete entry
    folder = layers / key[:32]
    layers.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # find() did not return it, so it is incomplete
    try:
        staging.rename(folder)
    except OSError as err:
        if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    return Entry(folder)


def drop(entry: Entry) -> None:
    """Remove an entry; if the process is killed in between, the rest of it does not count as complete."""
    (entry.folder / "meta.json").unlink(missing_ok=True)
    shutil.rmtree(entry.folder, ignore_errors=True)


def find(layers: Path, key: str) -> Entry | None:
    """Return the entry of a key and mark it as used, or None if it is absent or incomplete."""
    entry = Entry(layers / key[:32])
    try:
        if entry.meta["key"] != key:
            return None
        os.utime(entry.folder / "meta.json")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry


def verify(entry: Entry) -> None:
    """Verify that a cached tree equals its manifest.

    Raises Damaged with the first path that differs; the entry is then removed.
    """
    name = entry.folder.name
    try:
        meta = entry.meta
        name = meta["name"]
        expected, before = entry.manifest(), _written(entry.tree)
        if tree_manifest.digest(expected) == meta["digest"] and _read_lately(entry, before):
            return
        actual = tree_manifest.entries(entry.tree)
        if expected == actual and tree_manifest.digest(actual) == meta["digest"]:
            _note_read(entry, before)
            return
        # put modification times last: that of a folder only shows that something in it changed
        changes = sorted(tree_manifest.differences(expected, actual), key=lambda line: line.endswith(": mtime")) or [
            "meta.json"
        ]
    except (OSError, ValueError, KeyError, TypeError, process.CommandFailed) as err:
        changes = [f"cannot be read: {err}"]
    drop(entry)
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    raise Damaged(f"cached layer {name} is damaged ({changes[0]}{more}): removed; it will be built again")


def sound(entry: Entry | None) -> Entry | None:
    """Return the entry if it verifies; otherwise report and remove it, and return None, so that it is built again."""
    if entry is None:
        return None
    try:
        verify(entry)
    except Damaged as err:
        note(f"[yellow]{err}[/]")
        return None
    return entry


def _written(tree: Path) -> str:
    """Compute a SHA-256 over inode, type, change time and path of all files of a tree."""
    listing = ["/usr/bin/find", ".", "-printf", "%i %y%m %C@ %p\\0"]
    # names of files may be any bytes
    files = process.run(listing, cwd=tree, errors="surrogateescape").stdout.encode(errors="surrogateescape")
    return hashlib.sha256(b"\0".join(sorted(files.split(b"\0")))).hexdigest()


def _note_read(entry: Entry, written: str) -> None:
    """Record that an entry has just been verified. written: the result of `_written` before it was read."""
    record = {"written": written, "boot": BOOT_ID.read_text(), "at": time.time()}
    (entry.folder / "read.json").write_text(json.dumps(record))


def _read_lately(entry: Entry, written: str) -> bool:
    """Return whether an entry was verified recently, and nothing was written into it since."""
    try:
        record = json.loads((entry.folder / "read.json").read_text())
        same = (record["written"], record["boot"]) == (written, BOOT_ID.read_text())
        return same and 0 <= time.time() - record["at"] < READ_AGAIN_S
    except (OSError, ValueError, KeyError, TypeError):
        return False


def evict(layers: Path, limit: int, keep_keys: Iterable[str]) -> list[str]:
    """Evict the least recently used entries until the cache takes at most `limit` bytes.

    Entries with a key in `keep_keys` stay, and entries used within the last hour, because a build of another target may
    use them. Returns the names of the evicted entries.
    """
    keep_names = {key[:32] for key in keep_keys}
    entries: list[tuple[float, int, str, Entry]] = []
    for folder in layers.glob("*/"):
        entry = Entry(folder)
        try:
            meta = entry.meta
            entries.append(((folder / "meta.json").stat().st_mtime, int(meta["bytes"]), str(meta["name"]), entry))
        except (OSError, ValueError, KeyError, TypeError):
            drop(entry)  # left by an interrupted removal: an entry is complete when it appears
    total, evicted = sum(size for _, size, _, _ in entries), []
    for used, size, name, entry in sorted(entries, key=lambda item: item[0]):
        if total <= limit:
            break
        if entry.folder.name not in keep_names and time.time() - used > IN_USE_S:
            evicted.append(name)
            drop(entry)
            total -= size
    return evicted
