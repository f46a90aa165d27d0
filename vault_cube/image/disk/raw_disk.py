"""Make the raw disk: a GPT with an ESP, which holds a unified kernel image, and an ext4 root. Runs in the tools tree.

mke2fs writes the file system directly from the mounted layers into the disk file, in a quarter of the time that
systemd-repart takes for the same bytes (docs/decisions/disk-by-mke2fs.md). The disk with the layers below the last one
is cached, and the last layer is written into a copy (docs/decisions/last-layer-written-in.md). All identifiers are in
the pillar.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.layers import chroot, tools
from vault_cube.image.progress import note
from vault_cube.image.workspace import Workspace
from vault_cube.tree_manifest import Line

NAME = "disk"
"""Name of base disks in the layer cache."""
MIB = 1 << 20
BLOCK = 4096
SCRIPTS = Path(__file__).parent
BASE_DISK = "base_disk.sh"
GPT_MIB = 1
"""Space before the first partition, and after the last one for the backup table, MiB."""
INODE_BYTES = 256
STEP_MIB = 64
"""The last layer's share of the disk is a multiple of this, so that a change in it rarely changes the disk's size."""


@dataclass(frozen=True)
class Layout:
    """The sizes and positions of a disk's partitions, MiB."""

    esp: int
    root: int

    @property
    def root_start(self) -> int:
        return GPT_MIB + self.esp

    @property
    def total(self) -> int:
        return self.root_start + self.root + GPT_MIB


def layout(space: Workspace, below: Sequence[Line], last: Sequence[Line]) -> Layout:
    """Return the layout of a disk, whose root partition has room for the tree, the file system's tables and the spare.

    below: the manifest of the layers below the last one. last: the manifest of the last layer. mke2fs uses 2 % for
    bitmaps, group descriptors and directories at these sizes; 64 MiB are for the journal.
    """
    disk = space.settings.image.disk
    last_mib = -(-_used(last) // (STEP_MIB * MIB)) * STEP_MIB
    return Layout(disk.esp_mib, int(_used(below) * 1.02) // MIB + last_mib + 64 + disk.spare_mib)


def _used(lines: Sequence[Line]) -> int:
    """Return the space that a tree uses on ext4, bytes. A hard link uses no blocks and no inode."""
    inodes = [line for line in lines if not line.is_hard_link]
    blocks = sum((line.size + BLOCK - 1) // BLOCK + line.is_folder for line in inodes)
    return blocks * BLOCK + len(inodes) * 2 * INODE_BYTES


def merged(entries: Sequence[layer_cache.Entry]) -> list[Line]:
    """Return the manifest of an overlay of layers. Removed files are still in it, so use it only to estimate sizes."""
    return list({line.path: line for entry in entries for line in entry.lines()}.values())


def make(space: Workspace, entries: Sequence[layer_cache.Entry], epoch: int, folder: Path) -> None:
    """Make `disk.raw` in a folder.

    entries: the finished layers, bottom first. epoch: the time of all files, seconds since 1970.
    """
    below, last = entries[:-1], entries[-1]
    plan = layout(space, merged(below), last.lines())
    log = space.logs / "disk.log"
    log.unlink(missing_ok=True)
    disk = space.settings.image.disk
    environment = {
        "SOURCE_DATE_EPOCH": str(epoch),
        "TOTAL_MIB": str(plan.total),
        "GPT_MIB": str(GPT_MIB),
        "ESP_MIB": str(plan.esp),
        "ROOT_MIB": str(plan.root),
        "ROOT_START_MIB": str(plan.root_start),
        **{
            f"{name.upper()}": str(getattr(disk, name))
            for name in ("disk_uuid", "esp_uuid", "root_uuid", "filesystem_uuid", "hash_seed")
        },
    }
    _put_base_disk(space, below, environment, log, folder / "disk.raw")
    _in_tools(
        space,
        "boot_partition.sh",
        log=log,
        folder=folder,
        trees={"/run/tree": entries},
        environment={**environment, "CMDLINE": disk.kernel_cmdline, "MTOOLS_SKIP_CHECK": "1"},
    )
    _in_tools(
        space,
        "last_layer.sh",
        log=log,
        folder=folder,
        trees={"/run/below": below, "/run/tree": entries},
        binds=[chroot.Bind(last.tree, "/run/top")],
        environment=environment,
    )


def base_key(below: Sequence[layer_cache.Entry], environment: Mapping[str, str], commands: str) -> keys.Key:
    """Return the key of the base disk with the layers `below`. commands: the script that makes it."""
    return keys.of({"parent": below[-1].meta["key"], "commands": commands, **environment})


def _put_base_disk(
    space: Workspace, below: Sequence[layer_cache.Entry], environment: Mapping[str, str], log: Path, target: Path
) -> None:
    """Put a disk of the layers below the last one at `target`.

    It comes from the layer cache, or is made and stored there for the next build. Without room for two disks and the
    formats, it is made and not stored; the bytes are the same.
    """
    key = base_key(below, environment, (SCRIPTS / BASE_DISK).read_text())
    entry = layer_cache.sound(layer_cache.find(space.layers, key.key))
    if entry is None:
        with space.scratch("base-disk") as work:
            (work / NAME).mkdir()
            _in_tools(
                space, BASE_DISK, log=log, folder=work / NAME, trees={"/run/below": below}, environment=environment
            )
            disk = work / NAME / "disk.raw"
            size = disk.stat().st_blocks * 512
            # once for the copy, and once for the formats, which together are rarely larger than the disk
            if shutil.disk_usage(work).free < 2 * size:
                note("no room to cache the disk of the lower layers: each change makes the whole disk again")
                disk.rename(target)
                return
            entry = layer_cache.keep(space.layers, key.key, work / NAME, NAME, key.inputs, size=size)
    copy_sparse(entry.tree / "disk.raw", target)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without its holes, with one thread per processor.

    cp lets the kernel copy, which takes two to four times as long on ext4 (docs/decisions/last-layer-written-in.md).
    Raises OSError if the disk is full.
    """

    def copy(start: int, size: int) -> None:
        for offset in range(start, start + size, MIB):
            part = os.pread(data.fileno(), min(MIB, start + size - offset), offset)
            # on a disk that is nearly full, pwrite writes only a part and raises no error
            if os.pwrite(out.fileno(), part, offset) != len(part):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    with source.open("rb") as data, target.open("wb") as out, ThreadPoolExecutor(os.cpu_count()) as pool:
        out.truncate(source.stat().st_size)
        for part in [pool.submit(copy, *run) for run in _runs(data.fileno(), source.stat().st_size)]:
            part.result()


def _runs(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a file that have data, as offset and size in bytes; each is at most 64 MiB."""
    at = 0
    while at < size:
        try:
            at = os.lseek(file, at, os.SEEK_DATA)
        except OSError:  # no data up to the end of the file
            return
        end = min(os.lseek(file, at, os.SEEK_HOLE), at + 64 * MIB)
        yield at, end - at
        at = end


def _in_tools(
    space: Workspace,
    script: str,
    *,
    log: Path,
    folder: Path,
    trees: Mapping[str, Sequence[layer_cache.Entry]],
    binds: Sequence[chroot.Bind] = (),
    environment: Mapping[str, str],
) -> None:
    """Run a shell script of this folder in the tools tree.

    folder: mounted at /run/work, writable. trees: layers, bottom first, by the path at which they are mounted together.
    """
    binds = [chroot.Bind(folder, "/run/work", writable=True), chroot.Bind(SCRIPTS, "/run/disk"), *binds]
    # a read-only overlay needs at least two folders
    binds += [chroot.Bind(layers[0].tree, place) for place, layers in trees.items() if len(layers) == 1]
    chroot.run(
        tools.tree(space),
        ["sh", f"/run/disk/{script}"],
        what=f"making the disk: {script}",
        log=log,
        binds=binds,
        overlays={
            place: chroot.Overlay([entry.tree for entry in layers])
            for place, layers in trees.items()
            if len(layers) > 1
        },
        environment=environment,
    )
