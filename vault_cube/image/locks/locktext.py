"""The last line of a lock is the sha256 of the lines above it, so that a flipped bit is found before it counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vault_cube.errors import VaultCubeError

MARK = "# sha256 "


def closed(text: str) -> str:
    """A lock's text with its last line."""
    return f"{text}{MARK}{hashlib.sha256(text.encode()).hexdigest()}\n"


def read(file: Path) -> str:
    """The text of a lock, whatever its last line says. Raises VaultCubeError when there is none, or it is not text."""
    try:
        return file.read_text()
    except FileNotFoundError:
        raise VaultCubeError(f"{file}: there is no such lock yet: run `make lock`") from None
    except UnicodeDecodeError as err:
        line = file.read_bytes()[: err.start].count(b"\n") + 1
        raise VaultCubeError(f"{file}: line {line}: not text: restore the file, or run `make lock`") from None


def hold(file: Path, text: str) -> None:
    """Hold a lock's text against its last line. Raises VaultCubeError naming the file."""
    body, mark, _ = text.rpartition(MARK)
    if not mark or closed(body) != text:
        raise VaultCubeError(
            f"{file}: damaged, or changed by hand (its last line is not its sha256): restore it, or run `make lock`"
        )
