"""The manifest of an image: `<image>.manifest.json`, beside the image's files in build/<target>/image or dist/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from vault_cube.image import store
from vault_cube.image.progress import write_json


class File(TypedDict):
    """A file of an image: its SHA-256 and its size in bytes."""

    sha256: str
    bytes: int


class Size(TypedDict):
    """A layer's share of the disk, and what hard links save, in bytes; environments share files."""

    bytes: int
    linked_bytes: int


class Manifest(TypedDict):
    """The manifest of an image. A build writes it last, so an image with a manifest is complete."""

    name: str
    """Name of the image without file extension."""
    target: str
    """Name of the target."""
    version: str
    """`image:version` of the pillar."""
    builder: str
    """Version of this project."""
    key: str
    """Digest of all inputs of the image."""
    layers: dict[str, str]
    """Keys of the root tree and of the layers, bottom first."""
    sizes: dict[str, Size]
    """For each layer `bytes`, its share of the disk, and `linked_bytes`, saved by hard links."""
    tools: str
    """Key of the tools tree."""
    epoch: int
    """Time of all files, seconds since 1970."""
    matches_lock: bool
    """False if a locked file had to be re-resolved."""
    moved: list[str]
    """The re-resolved packages, one line each."""
    raw_sha256: str
    """SHA-256 of the raw disk."""
    files: dict[str, File]
    """For each file of the image `sha256` and `bytes`."""
    boot_test: NotRequired[dict[str, Any]]
    """Report of the boot test; absent before it."""
    seconds: NotRequired[dict[str, float]]
    """Duration of each step of the build; absent before the boot test."""


def path(folder: Path, name: str) -> Path:
    """Return the path of an image's manifest."""
    return folder / f"{name}.manifest.json"


def read(folder: Path, name: str) -> Manifest:
    """Read the manifest of an image. Raises OSError or ValueError if it is missing or malformed."""
    manifest: Manifest = json.loads(path(folder, name).read_text())
    return manifest


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest beside the image, atomically."""
    write_json(path(folder, manifest["name"]), manifest)


def described(file: Path) -> File:
    """Return a manifest's entry for a file."""
    return {"sha256": store.sha256_of(file), "bytes": file.stat().st_size}


def damaged(folder: Path, manifest: Manifest) -> list[str]:
    """Return the names of an image's files that differ from its manifest in size or SHA-256.

    Hashes only files that were modified after the manifest was written; `image.check` hashes all files.
    """
    manifest_file = path(folder, manifest["name"])
    written = manifest_file.stat().st_mtime_ns
    status = {name: (folder / name).stat() for name in manifest["files"]}
    wrong = [name for name, file in manifest["files"].items() if status[name].st_size != file["bytes"]]
    later = [name for name in status if name not in wrong and status[name].st_mtime_ns > written]
    wrong += [name for name in later if store.sha256_of(folder / name) != manifest["files"][name]["sha256"]]
    if later and not wrong:
        manifest_file.touch()  # the files were only copied or touched: do not hash them again next time
    return wrong
