"""The last line of a lock: the SHA-256 of all lines above it, to detect damage before the lock is used."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vault_cube.errors import VaultCubeError

MARK = "# sha256 "


def closed(text: str) -> str:
    """Append the last line to a lock's text."""
    return f"{text}{MARK}{hashlib.sha256(text.encode()).hexdigest()}\n"


def make_lock(file: Path) -> str:
    """Return the command that makes a lock, for error messages; without a target, `make` uses the default one."""
    return "`make lock`" if file.parent.name == "locks" else f"`make lock TARGET={file.parent.name}`"


def read(file: Path) -> str:
    """Read the text of a lock without verifying it. Raises VaultCubeError if the file is missing or is not text."""
    try:
        return file.read_text()
    except FileNotFoundError as err:
        raise VaultCubeError(f"{file}: this lock does not exist yet: run {make_lock(file)}") from err
    except UnicodeDecodeError as err:
        line = file.read_bytes()[: err.start].count(b"\n") + 1
        raise VaultCubeError(f"{file}: line {line}: not text: restore the file, or run {make_lock(file)}") from err


def verify(file: Path, text: str) -> None:
    """Verify a lock's text against its last line. Raises VaultCubeError with the name of the file."""
    body, mark, _ = text.rpartition(MARK)
    if not mark or closed(body) != text:
        raise VaultCubeError(
            f"{file}: damaged, or edited by hand (its last line is not the sha256 of the lines above): "
            f"restore it, or run {make_lock(file)}"
        )
