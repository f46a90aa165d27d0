"""The layer cache: a folder a key, complete or not there at all, verified before anything is built on it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError
from vault_cube.image import manifest


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
    """
    lines = manifest.entries(made)
    staging = made.parent / f"entry-{name}"
    staging.mkdir()
    made.rename(staging / "tree")
    (staging / "manifest").write_text("\n".join(lines))
    meta = {
        "name": name,
        "key": key,
        "digest": manifest.digest(lines),
        "bytes": tree_bytes(lines),
        "inputs": inputs,
        **more,
    }
    (staging / "meta.json").write_text(json.dumps(meta, indent=1))
    # the folder's name appears last, and in one step: a killed build leaves no half entry
    folder = layers / key[:32]
    layers.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    return Entry(folder)


def find(layers: Path, key: str) -> Entry | None:
    """The entry of a key, marked as used now; None when it is not there or not complete."""
    entry = Entry(layers / key[:32])
    try:
        if entry.meta["key"] != key:
            return None
    except (OSError, ValueError, KeyError):
        return None
    os.utime(entry.folder / "meta.json")
    return entry


def verify(entry: Entry) -> None:
    """Read all of a cached tree. Raises Damaged, and drops the entry, naming the first path that differs."""
    meta = entry.meta
    now = manifest.entries(entry.tree)
    if manifest.digest(now) == meta["digest"]:
        return
    changes = manifest.differences(entry.manifest(), now) or ["its manifest"]
    shutil.rmtree(entry.folder)
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    raise Damaged(f"cached layer {meta['name']} is damaged ({changes[0]}{more}): removed; it is built again")


def evict(layers: Path, limit: int, keep_keys: Iterable[str]) -> list[str]:
    """Remove the least recently used entries until `limit` bytes are kept; never those of `keep_keys`.

    Returns the names of what went.
    """
    kept = {key[:32] for key in keep_keys}
    found = []
    for folder in layers.glob("*/"):
        entry = Entry(folder)
        try:
            found.append((((folder / "meta.json").stat().st_mtime), entry.meta.get("bytes", 0), entry))
        except (OSError, ValueError):
            if time.time() - folder.stat().st_mtime > 3600:  # nobody's: an entry appears complete or not at all
                shutil.rmtree(folder, ignore_errors=True)
    total, gone = sum(size for _, size, _ in found), []
    for _, size, entry in sorted(found, key=lambda item: item[0]):
        if total <= limit:
            break
        if entry.folder.name not in kept:
            gone.append(entry.meta["name"])
            shutil.rmtree(entry.folder)
            total -= size
    return gone


def tree_bytes(lines: list[str]) -> int:
    """The sum of the sizes in a manifest, bytes; a hard link counts once."""
    return sum(int(fields[4]) for line in lines if not (fields := line.split(" "))[6].startswith("="))


def linked_bytes(lines: list[str]) -> int:
    """What hard links save in a tree: the sum of the sizes of a file's further names, bytes."""
    return sum(int(fields[4]) for line in lines if (fields := line.split(" "))[6].startswith("="))
