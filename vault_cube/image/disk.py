"""The disk: a unified kernel image, a GPT with ESP and ext4 root, then qcow2 and raw.zst, all in the tools tree.

mke2fs writes the file system straight from the mounted layers into the disk's file, in a quarter of the time that
systemd-repart takes for the same bytes (see docs/decisions/disk-by-mke2fs.md). Every identifier comes from the pillar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image import cache, chroot, tools
from vault_cube.image.workspace import Workspace

MIB = 1 << 20
BLOCK = 4096
GPT_MIB = 1
"""room before the first partition, and again for the backup table at the end"""
INODE_BYTES = 256


@dataclass(frozen=True)
class Layout:
    """Where the partitions of a disk lie, MiB."""

    esp: int
    root: int

    @property
    def root_start(self) -> int:
        return GPT_MIB + self.esp

    @property
    def total(self) -> int:
        return self.root_start + self.root + GPT_MIB


def layout(space: Workspace, lines: Sequence[str]) -> Layout:
    """The size of the root partition: what the tree takes in blocks, the file system's own tables, and room to spare.

    lines: the manifest of the whole tree. 2 % for bitmaps, group descriptors and directories is what mke2fs takes at
    these sizes; 64 MiB hold the journal.
    """
    blocks = sum((int(line.split(" ")[4]) + BLOCK - 1) // BLOCK + (line.split(" ")[1] == "d") for line in lines)
    used = blocks * BLOCK + len(lines) * 2 * INODE_BYTES
    disk = space.settings.image.disk
    return Layout(disk.esp_mib, int(used * 1.02) // MIB + 64 + disk.spare_mib)


def merged(entries: Sequence[cache.Entry]) -> list[str]:
    """The manifest of the layers laid over each other, near enough for sizes."""
    seen: dict[str, str] = {}
    for entry in entries:
        for line in entry.manifest():
            seen[line.split(" ", 1)[0]] = line
    return list(seen.values())


SCRIPT = """\
root=/run/tree
kernel=$(ls "$root/lib/modules")
case "$kernel" in *"
"* | "") echo "the tree holds not one kernel but: $kernel"; exit 1 ;; esac
mkdir -p /tmp/esp/EFI/BOOT
# the command line finds the root by the identifier that the partition is given below
ukify build --linux="$root/boot/vmlinuz-$kernel" --initrd="$root/boot/initrd.img-$kernel" \
  --cmdline="root=PARTUUID=$ROOT_UUID ro $CMDLINE" --os-release="@$root/usr/lib/os-release" --uname="$kernel" \
  --stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub --output=/tmp/esp/EFI/BOOT/BOOTX64.EFI
find /tmp/esp -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
rm -f /run/work/disk.raw
truncate -s "${TOTAL_MIB}M" /run/work/disk.raw
sfdisk --quiet --no-reread --no-tell-kernel /run/work/disk.raw <<EOF
label: gpt
label-id: $DISK_UUID
unit: sectors
sector-size: 512
start=$((GPT_MIB * 2048)), size=$((ESP_MIB * 2048)), type=uefi, uuid=$ESP_UUID, name=esp
start=$((ROOT_START_MIB * 2048)), size=$((ROOT_MIB * 2048)), type=linux-root-x86-64, uuid=$ROOT_UUID, name=root
EOF
# a FAT of fixed serial number whose entries carry the epoch
truncate -s "${ESP_MIB}M" /tmp/esp.img
mkfs.vfat -F 32 -n ESP -i "$(echo "$ESP_UUID" | cut -c1-8)" --invariant /tmp/esp.img
mcopy -s -m -i /tmp/esp.img /tmp/esp/EFI ::
dd if=/tmp/esp.img of=/run/work/disk.raw bs=1M seek="$GPT_MIB" conv=notrunc,sparse status=none
mke2fs -q -F -t ext4 -L root -b 4096 -I 256 -U "$FILESYSTEM_UUID" \
  -E "offset=$((ROOT_START_MIB * 1048576)),hash_seed=$HASH_SEED,lazy_itable_init=0,root_owner=0:0" \
  -d "$root" /run/work/disk.raw "$((ROOT_MIB * 256))"
"""


def make(space: Workspace, entries: Sequence[cache.Entry], epoch: int, folder: Path) -> Path:
    """Make `disk.raw` in a folder from the finished layers, bottom first."""
    disk = space.settings.image.disk
    plan = layout(space, merged(entries))
    log = space.logs / "disk.log"
    log.unlink(missing_ok=True)
    (folder / "tree").mkdir()
    environment = {
        "SOURCE_DATE_EPOCH": str(epoch),
        "CMDLINE": disk.kernel_cmdline,
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
    in_tools(
        space,
        ["sh", "-euc", SCRIPT],
        what="making the disk",
        log=log,
        folder=folder,
        entries=entries,
        environment=environment,
    )
    return folder / "disk.raw"


# several threads (-W) would write clusters in the order they are ready: another image each time
PACK = {
    "qcow2": [
        *("qemu-img", "convert", "-p", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"),
        *("/run/work/disk.raw", "/run/work/disk.qcow2"),
    ],
    "raw.zst": ["zstd", "-q", "-f", "-T0", "-3", "--no-progress", "/run/work/disk.raw", "-o", "/run/work/disk.raw.zst"],
}
"""the command that makes each form that is shipped"""


def convert(space: Workspace, folder: Path, form: str) -> Path:
    """Turn `disk.raw` of a folder into a form that is shipped. Returns the file."""
    in_tools(space, PACK[form], what=f"packing {form}", log=space.logs / "disk.log", folder=folder)
    return folder / f"disk.{form}"


def in_tools(
    space: Workspace,
    command: Sequence[str],
    *,
    what: str,
    log: Path,
    folder: Path,
    entries: Sequence[cache.Entry] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command in the tools tree: /run/work is `folder`, /run/tree the layers, read-only."""
    if len(entries) == 1:
        raise VaultCubeError("a disk needs the root and at least one layer")
    binds = [chroot.Bind(folder, "/run/work", writable=True)]
    lower = chroot.Overlay([entry.tree for entry in entries]) if entries else None
    chroot.run(
        tools.tree(space),
        command,
        what=what,
        log=log,
        binds=binds,
        overlays={"/run/tree": lower} if lower else {},
        environment={"MTOOLS_SKIP_CHECK": "1", **(environment or {})},
    )
