"""The layer cache: a folder a key, complete or not there at all, verified before anything is built on it.

Verified is an entry that was read and compared with its manifest, or one that was read within the last day of this run
of the machine and in which nothing has been written since. The kernel alone sets a file's change time (st_ctime):
whoever writes into a tree, or puts a file's old times back, leaves it different.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import tree_manifest
from vault_cube.image.progress import note

IN_USE_S = 3600
"""seconds for which an entry counts as in use after it was asked for"""

READ_AGAIN_S = 86400
"""seconds after which an entry is read again, though nothing was written into it: disks decay"""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Entry:
    """A finished tree (a layer's upper folder, a root tree, a tools tree)."""

    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def meta(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "meta.json").read_text())
        return found

    def manifest(self) -> list[str]:
        return (self.folder / "manifest").read_text().split("\n")


class Damaged(VaultCubeError):
    """A cached tree is not what was put there."""


def keep(layers: Path, key: str, made: Path, name: str, inputs: Mapping[str, Any], **more: Any) -> Entry:
    """Take a finished tree into the cache, whole or not at all.

    made: the tree, on the cache's file system; it is moved. inputs: what the key was made of, for `image.why`.
    When a build of another target was faster its entry stays: trees of that build may lie on it.
    """
    faster = find(layers, key)
    if faster:
        return faster
    staging = made.parent / f"entry-{name}"
    staging.mkdir()
    made.rename(staging / "tree")
    before = _written(staging / "tree")
    lines = tree_manifest.entries(staging / "tree")
    (staging / "manifest").write_text("\n".join(lines))
    _note_read(Entry(staging), before)
    meta = {
        "name": name,
        "key": key,
        "digest": tree_manifest.digest(lines),
        "bytes": tree_bytes(lines),
        "inputs": inputs,
        **more,
    }
    (staging / "meta.json").write_text(json.dumps(meta, indent=1))
    # the folder's name appears last, and in one step: a killed build leaves no half entry
    folder = layers / key[:32]
    layers.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # what is there is not complete
    try:
        staging.rename(folder)
    except OSError as err:
        if err.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    return Entry(folder)


def drop(entry: Entry) -> None:
    """Remove an entry; a run that is killed meanwhile leaves none that looks complete."""
    (entry.folder / "meta.json").unlink(missing_ok=True)
    shutil.rmtree(entry.folder, ignore_errors=True)


def find(layers: Path, key: str) -> Entry | None:
    """The entry of a key, marked as used now; None when it is not there or not complete."""
    entry = Entry(layers / key[:32])
    try:
        if entry.meta["key"] != key:
            return None
        os.utime(entry.folder / "meta.json")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry


def verify(entry: Entry) -> None:
    """Make sure that a cached tree is what was kept. Raises Damaged, and drops the entry, naming the first path that
    differs."""
    name = entry.folder.name
    try:
        meta = entry.meta
        name = meta["name"]
        was, before = entry.manifest(), _written(entry.tree)
        if tree_manifest.digest(was) == meta["digest"] and _read_lately(entry, before):
            return
        now = tree_manifest.entries(entry.tree)
        if was == now and tree_manifest.digest(now) == meta["digest"]:
            _note_read(entry, before)
            return
        # a folder's time only says that something in it changed
        changes = sorted(tree_manifest.differences(was, now), key=lambda line: line.endswith(": mtime")) or [
            "meta.json"
        ]
    except (OSError, ValueError, KeyError, TypeError, subprocess.CalledProcessError) as err:
        changes = [f"cannot be read: {err}"]
    drop(entry)
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    raise Damaged(f"cached layer {name} is damaged ({changes[0]}{more}): removed; it is built again")


def sound(entry: Entry | None) -> Entry | None:
    """The entry if it is what it was; a damaged one is named and dropped, so that it is made again."""
    if entry is None:
        return None
    try:
        verify(entry)
    except Damaged as err:
        note(f"[yellow]{err}[/]")
        return None
    return entry


def _written(tree: Path) -> str:
    """One sha256 over what every entry of a tree is and when it was last written."""
    # inode, type and mode, change time, path
    listing = ["/usr/bin/find", ".", "-printf", "%i %y%m %C@ %p\\0"]
    seen = subprocess.run(listing, cwd=tree, capture_output=True, check=True).stdout
    return hashlib.sha256(b"\0".join(sorted(seen.split(b"\0")))).hexdigest()


def _note_read(entry: Entry, written: str) -> None:
    """Note that an entry was read, and found right, as it was written then."""
    noted = {"written": written, "boot": BOOT_ID.read_text(), "at": time.time()}
    (entry.folder / "read.json").write_text(json.dumps(noted))


def _read_lately(entry: Entry, written: str) -> bool:
    try:
        noted = json.loads((entry.folder / "read.json").read_text())
        same = (noted["written"], noted["boot"]) == (written, BOOT_ID.read_text())
        return same and 0 <= time.time() - noted["at"] < READ_AGAIN_S
    except (OSError, ValueError, KeyError, TypeError):
        return False


def evict(layers: Path, limit: int, keep_keys: Iterable[str]) -> list[str]:
    """Remove the least recently used entries until `limit` bytes are kept; never those of `keep_keys`, nor what was
    used within the last hour: a build of another target may lie on it.

    Returns the names of what went.
    """
    kept = {key[:32] for key in keep_keys}
    found: list[tuple[float, int, str, Entry]] = []
    for folder in layers.glob("*/"):
        entry = Entry(folder)
        try:
            meta = entry.meta
            found.append(((folder / "meta.json").stat().st_mtime, int(meta["bytes"]), str(meta["name"]), entry))
        except (OSError, ValueError, KeyError, TypeError):
            drop(entry)  # nobody's: an entry appears complete or not at all
    total, gone = sum(size for _, size, _, _ in found), []
    for used, size, name, entry in sorted(found, key=lambda item: item[0]):
        if total <= limit:
            break
        if entry.folder.name not in kept and time.time() - used > IN_USE_S:
            gone.append(name)
            drop(entry)
            total -= size
    return gone


def tree_bytes(lines: list[str]) -> int:
    """The sum of the sizes in a manifest, bytes; a hard link counts once."""
    return sum(int(fields[4]) for line in lines if not (fields := line.split(" "))[6].startswith("="))


def linked_bytes(lines: list[str]) -> int:
    """What hard links save in a tree: the sum of the sizes of a file's further names, bytes."""
    return sum(int(fields[4]) for line in lines if (fields := line.split(" "))[6].startswith("="))
