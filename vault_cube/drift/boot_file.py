"""Compare the unified kernel image on the EFI system partition with the files that it was made from.

Its code, the stub of systemd, is not compared: the image's tree does not contain it. Source of the format: Microsoft,
PE Format, "COFF File Header" and "Section Table"; the sections' names: systemd-stub(7).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

from vault_cube.drift.manifest import Manifest
from vault_cube.drift.reading import content
from vault_cube.tree_manifest import Line

PLACE = "efi/EFI/BOOT/BOOTX64.EFI"


def differences(root: Path, manifest: Manifest) -> Iterator[tuple[str, bool]]:
    """Yield each difference, and whether it is certain."""
    try:
        data = content(root / PLACE)
        others = [file for file in sorted((root / "efi").rglob("*")) if file.is_file() and file != root / PLACE]
    except OSError as err:
        yield f"cannot be read: {err.strerror}", False
        return
    for file in others:
        yield f"/{file.relative_to(root)} is not in the image", True
    try:
        parts = sections(data)
    except (struct.error, ValueError) as err:
        yield f"not a unified kernel image: {err}", True
        return
    for section, prefix in ((".linux", "boot/vmlinuz-"), (".initrd", "boot/initrd.img-")):
        files = [entry.line for path, entry in manifest.entries.items() if path.startswith(prefix)]
        if files and not any(_is(parts.get(section, b""), line) for line in files):
            yield f"section {section} differs from the image's /{prefix}*", True
    cmdline = parts.get(".cmdline", b"").rstrip(b"\0\n").decode(errors="replace").strip()
    if manifest.header["cmdline"] and cmdline != manifest.header["cmdline"]:
        yield f"command line → {cmdline or 'none'}", True


def _is(section: bytes, line: Line) -> bool:
    """Whether a section is a file of the image, padded with zeros."""
    return hashlib.sha256(section[: line.size]).hexdigest() == line.content and not section[line.size :].strip(b"\0")


def sections(data: bytes) -> dict[str, bytes]:
    """Return the sections of a PE file by name. Raises ValueError or struct.error if it is none."""
    (start,) = struct.unpack_from("<I", data, 0x3C)
    if data[:2] != b"MZ" or data[start : start + 4] != b"PE\0\0":
        raise ValueError("no PE header")
    (count,) = struct.unpack_from("<H", data, start + 6)
    (optional,) = struct.unpack_from("<H", data, start + 20)
    result = {}
    for number in range(count):
        at = start + 24 + optional + 40 * number
        name, size, _, stored, offset = struct.unpack_from("<8sIIII", data, at)
        result[name.rstrip(b"\0").decode(errors="replace")] = data[offset : offset + min(size, stored)]
    return result
