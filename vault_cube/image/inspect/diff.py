"""List the differences of two images or trees: packages, configuration, files, and the first bytes that differ."""

from __future__ import annotations

import datetime
import difflib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vault_cube import process, tree_manifest
from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import layer_cache
from vault_cube.image.inspect import unpack
from vault_cube.image.inspect.packages import installed
from vault_cube.image.progress import step
from vault_cube.image.workspace import Workspace
from vault_cube.tree_manifest import Line

LISTED = 200
"""Largest number of lines about files; a longer list is of no use to a reader."""
CONFIG_BYTES = 1 << 18
"""Size up to which the changed lines of a configuration file are shown, in bytes."""
CHUNK = 1 << 20
CLOSER_LOOKS = 5
"""Largest number of files that diffoscope compares."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a tree, its manifest and, for an image, the raw disk."""

    tree: Path
    lines: Sequence[Line]
    disk: Path | None = None
    partitions: tuple[unpack.Partition, ...] = ()


def diff(space: Workspace, first: Path, second: Path) -> list[str]:
    """Compare two images (raw, raw.zst, qcow2), two cached layers or two folders.

    Returns one line per difference, none if the two are equal. Raises VaultCubeError if either cannot be read, or if
    one is an image and the other a folder.
    """
    with space.scratch("diff") as work:
        sides = []
        for name, path in (("first", first), ("second", second)):
            (work / name).mkdir()
            with step(f"reading {path}"):
                sides.append(_side(space, path, work / name))
        if (sides[0].disk is None) != (sides[1].disk is None):
            raise VaultCubeError(f"{first} and {second}: an image and a folder: name two images or two folders")
        return [*trees(sides[0], sides[1]), *_disks(space, sides[0], sides[1], work)]


def layers(first: Path, second: Path) -> list[str]:
    """Compare two entries of the layer cache. Returns one line per difference."""
    return trees(*(Side(entry / "tree", layer_cache.Entry(entry).lines()) for entry in (first, second)))


def _side(space: Workspace, path: Path, folder: Path) -> Side:
    if path.is_dir():
        tree = path / "tree" if (path / "meta.json").is_file() and (path / "tree").is_dir() else path
        return Side(tree, tree_manifest.parse(tree_manifest.entries(tree)))
    if not path.is_file():
        raise VaultCubeError(f"{path}: no such image or folder: check the path")
    disk = unpack.raw(space, path, folder)
    partitions = unpack.partitions(space, disk, folder)
    tree = unpack.files(space, disk, partitions, folder)
    return Side(tree, tree_manifest.parse(tree_manifest.entries(tree)), disk, tuple(partitions))


def trees(first: Side, second: Side) -> list[str]:
    """Compare two trees. Returns one line per difference, packages first; the files of changed packages are counted."""
    old, new = ({line.path: line for line in side.lines} for side in (first, second))
    changed = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
    if not changed:
        return []
    before, after = installed(first.tree), installed(second.tree)
    updated = [
        key
        for key in sorted(before.versions.keys() | after.versions.keys())
        if before.versions.get(key) != after.versions.get(key)
    ]
    report = [f"{key} {before.versions.get(key, 'none')} → {after.versions.get(key, 'none')}" for key in updated]
    packaged = {path for key in updated for side in (before, after) for path in side.files.get(key, ())}
    if any(key.startswith("package ") for key in updated):
        packaged |= {path for path in changed if path.startswith("var/lib/dpkg/")}
    others = [path for path in changed if unquote(path) not in packaged]
    if len(others) < len(changed):
        report.append(f"{len(changed) - len(others)} files of these packages")
    lines = [line for path in others for line in _entry(first, second, path, old.get(path), new.get(path))]
    report += lines[:LISTED]
    if len(lines) > LISTED:
        report.append(f"… and {len(lines) - LISTED} more lines")
    both = [(old[path], new[path]) for path in others if path in old and path in new]
    closer = [
        before.path
        for before, after in both
        if _differ_as_files(before, after) and not before.is_private and not after.is_private
    ]
    return report + list(_diffoscope(first.tree, second.tree, closer))


def _differ_as_files(old: Line, new: Line) -> bool:
    """Return whether both are regular files and their content differs."""
    return old.is_file and new.is_file and old.content != new.content


def _entry(first: Side, second: Side, path: str, old: Line | None, new: Line | None) -> Iterator[str]:
    """Describe the difference at one path, in zero or more lines."""
    name = unquote(path)
    if old is None or new is None:
        yield f"{'+' if old is None else '-'} {name}"
        return
    differences = [
        f"{field} {_shown(field, a)} → {_shown(field, b)}"
        for field, a, b in zip(Line._fields, old, new, strict=True)
        if a != b and not (field == "content" and old.is_file and new.is_file)
    ]
    files = [side.tree / name for side in (first, second)]
    text: list[str] = []
    if _differ_as_files(old, new):
        difference = first_difference(*files)
        if difference is not None:
            at, left, right = difference
            if old.is_private or new.is_private:
                differences.append(f"content from byte {at}, not shown: not readable by all users")
            else:
                differences.append(f"content from byte {at}: {left or 'end of file'}, {right or 'end of file'}")
                text = _text(*files) if name.startswith("etc/") else []
    if differences:
        yield f"~ {name}: {'; '.join(differences)}"
    yield from (f"    {line}" for line in text)


def _shown(field: str, value: object) -> str:
    if field == "mtime":
        return datetime.datetime.fromtimestamp(int(str(value)) / 1e9, datetime.UTC).isoformat(timespec="seconds")
    return f"{value:o}" if field == "mode" else unquote(str(value))


def first_difference(first: Path, second: Path) -> tuple[int, str, str] | None:
    """Find the first byte at which two files differ.

    Returns its offset in bytes, and up to 8 bytes of each file from there in hexadecimal; None if the files are equal.
    """
    at = 0
    with first.open("rb") as a, second.open("rb") as b:
        while True:
            left, right = a.read(CHUNK), b.read(CHUNK)
            if left != right:
                ends = min(len(left), len(right))
                place = next((index for index in range(ends) if left[index] != right[index]), ends)
                return at + place, left[place : place + 8].hex(" "), right[place : place + 8].hex(" ")
            if not left:
                return None
            at += len(left)


def _text(first: Path, second: Path) -> list[str]:
    """Return the changed lines of a configuration file; none for a large or a binary one."""
    if max(file.stat().st_size for file in (first, second)) > CONFIG_BYTES:
        return []
    try:
        before, after = (file.read_text().splitlines() for file in (first, second))
    except UnicodeDecodeError:
        return []
    return [line for line in list(difflib.unified_diff(before, after, lineterm="", n=0))[2:] if line[:2] != "@@"]


def _diffoscope(first: Path, second: Path, paths: Sequence[str]) -> Iterator[str]:
    """Compare up to CLOSER_LOOKS files with diffoscope, if it is installed, and return its report."""
    if not shutil.which("diffoscope"):
        return
    for path in paths[:CLOSER_LOOKS]:
        name = unquote(path)
        command = ["diffoscope", "--no-progress", "--text", "-", "--max-text-report-size", "20000"]
        try:
            ran = process.run([*command, first / name, second / name], timeout_s=300, ok=None)
        except process.TimedOut:
            yield f"diffoscope {name}: stopped after 300 s"
            continue
        yield f"diffoscope {name}:"
        yield from (f"    {line}" for line in (ran.stdout or ran.stderr).splitlines())


def _disks(space: Workspace, first: Side, second: Side, work: Path) -> list[str]:
    """Describe the first byte at which the raw disks differ: its partition and its file."""
    if first.disk is None or second.disk is None:
        return []
    difference = first_difference(first.disk, second.disk)
    if difference is None:
        return []
    at, left, right = difference
    where, inside = "outside all partitions", ""
    for partition in first.partitions:
        if partition.start <= at < partition.start + partition.size:
            where = f"partition {partition.name}"
            if partition.kind == unpack.ROOT_TYPE:
                owner = unpack.owner_of_block(space, first.disk, partition, at - partition.start, work)
                inside = f", in {owner}"
    return [f"disk from byte {at}: {left or 'end of disk'}, {right or 'end of disk'} ({where}{inside})"]
