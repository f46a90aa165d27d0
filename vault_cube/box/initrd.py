"""Read the uncompressed cpio archives at the start of an initial RAM disk, where the kernel looks for microcode."""

from __future__ import annotations

from pathlib import Path

# the "new ASCII" format, without and with checksums; Linux, Documentation/driver-api/early-userspace/buffer-format.rst
MAGIC = (b"070701", b"070702")
HEADER_BYTES = 110
MICROCODE = {
    "amd64-microcode": "kernel/x86/microcode/AuthenticAMD.bin",
    "intel-microcode": "kernel/x86/microcode/GenuineIntel.bin",
}
"""File that each package's initramfs hook adds."""


def early_files(initrd: Path) -> set[str]:
    """List the files of all archives before the first compressed one.

    Returns their paths. Raises OSError if the file cannot be read.
    """
    names: set[str] = set()
    with initrd.open("rb") as stream:
        position = 0
        while True:
            stream.seek(position)
            header = stream.read(HEADER_BYTES)
            if header and header[:4] == bytes(len(header[:4])):
                position += 4  # padding between two archives
                continue
            if len(header) < HEADER_BYTES or header[:6] not in MAGIC:
                return names
            size, name_size = int(header[54:62], 16), int(header[94:102], 16)
            names.add(stream.read(name_size).rstrip(b"\0").decode(errors="replace"))
            position += _aligned(HEADER_BYTES + name_size) + _aligned(size)


def _aligned(size: int) -> int:
    return (size + 3) // 4 * 4
