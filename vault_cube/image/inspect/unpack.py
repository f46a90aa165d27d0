"""Extract the raw disk, the partitions and the files of a finished image, without a mount or a loop device.

debugfs reads the ext4 root and mtools the EFI partition, both from the tools tree. debugfs does not extract extended
attributes, device nodes and the times of symbolic links; it copies hard links.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.layers import chroot, tools
from vault_cube.image.workspace import Workspace

SECTOR = 512
SCRIPTS = "/run/scripts"
ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
"""Source: UAPI Discoverable Partitions Specification, root of x86-64"""
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"


@dataclass(frozen=True)
class Partition:
    """A partition of a disk."""

    name: str
    kind: str
    """Partition type, as an upper-case UUID."""
    start: int
    """Offset on the disk, in bytes."""
    size: int
    """Size in bytes."""


class _Entry(TypedDict):
    """A partition in the output of `sfdisk --json`; start and size in sectors."""

    type: str
    start: int
    size: int
    name: NotRequired[str]


def raw(space: Workspace, image: Path, folder: Path) -> Path:
    """Unpack the raw disk of an image (qcow2, raw.zst or raw) into a folder.

    Returns the path of the raw disk; for a raw image, the image itself.
    """
    with image.open("rb") as handle:
        magic = handle.read(4)
    command = {
        b"QFI\xfb": ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "/run/image", "/run/work/disk.raw"],
        b"\x28\xb5\x2f\xfd": ["zstd", "-q", "-d", "-f", "--sparse", "/run/image", "-o", "/run/work/disk.raw"],
    }.get(magic)
    if command is None:
        return image
    _in_tools(space, command, image, folder, f"unpacking {image.name}")
    return folder / "disk.raw"


def partitions(space: Workspace, disk: Path, folder: Path) -> list[Partition]:
    """List the partitions of a raw disk. Raises VaultCubeError if it has no partition table."""
    command = ["sh", "-c", "sfdisk --json /run/image > /run/work/table.json"]
    try:
        _in_tools(space, command, disk, folder, "sfdisk")
    except process.CommandFailed as err:
        raise VaultCubeError(f"{disk}: not a disk image: it has no partition table") from err
    table: list[_Entry] = json.loads((folder / "table.json").read_text())["partitiontable"]["partitions"]
    return [
        Partition(entry.get("name", "-"), entry["type"].upper(), entry["start"] * SECTOR, entry["size"] * SECTOR)
        for entry in table
    ]


def files(space: Workspace, disk: Path, parts: list[Partition], folder: Path) -> Path:
    """Extract the files of a raw disk: those of the root partition, and below `efi` those of the EFI partition.

    parts: the disk's partitions. Returns the tree, below folder. Raises VaultCubeError if the disk has no readable root
    partition.
    """
    at = {partition.kind: partition for partition in parts}
    if ROOT_TYPE not in at:
        raise VaultCubeError(f"{disk}: it has no root partition of type {ROOT_TYPE}")
    tree = folder / "tree"
    tree.mkdir()
    starts = [str(at[kind].start) for kind in (ROOT_TYPE, ESP_TYPE) if kind in at]
    _in_tools(space, ["sh", f"{SCRIPTS}/read_files.sh", *starts], disk, folder, f"reading the files of {disk.name}")
    if not any(tree.iterdir()):
        raise VaultCubeError(f"{disk}: its root partition cannot be read; see {space.logs}/unpack.log")
    for created in (tree, tree / "efi"):
        if created.is_dir():
            os.utime(created, (0, 0))  # this function created them: their times are not from the image
    for above, folders, names in os.walk(tree):
        for path in (Path(above, name) for name in (*folders, *names)):
            if path.is_symlink():
                os.utime(path, (0, 0), follow_symlinks=False)
    return tree


def owner_of_block(space: Workspace, disk: Path, root: Partition, offset: int, folder: Path) -> str:
    """Find the file at an offset of the root partition.

    offset: bytes from the start of the partition. Returns the file's path, or a description of a block without a file.
    """
    (folder / "owner").unlink(missing_ok=True)
    command = ["sh", f"{SCRIPTS}/owner_of_block.sh", str(root.start), str(offset // 4096)]
    _in_tools(space, command, disk, folder, "debugfs")
    try:
        return (folder / "owner").read_text().strip() or "no file"
    except FileNotFoundError:
        return "the file system's metadata"


def _in_tools(space: Workspace, command: list[str], image: Path, folder: Path, what: str) -> None:
    chroot.run(
        tools.tree(space),
        command,
        what=what,
        log=space.logs / "unpack.log",
        binds=[
            chroot.Bind(folder, "/run/work", writable=True),
            chroot.Bind(image.absolute(), "/run/image"),
            chroot.Bind(Path(__file__).parent, SCRIPTS),
        ],
        environment={"MTOOLS_SKIP_CHECK": "1"},
    )
