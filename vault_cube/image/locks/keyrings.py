"""The keys that sign the distributions' archives: carried in `locks/keyrings/`, known by their fingerprints.

No release of Debian or Ubuntu has the keyring of every other one: docs/decisions/keyrings-in-the-checkout.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vault_cube import openpgp
from vault_cube.errors import VaultCubeError
from vault_cube.image.workspace import Workspace
from vault_cube.settings.image import Source

FOLDER = "locks/keyrings"


def sources(space: Workspace, chosen: Sequence[Source]) -> list[Source]:
    """Return apt sources whose keyring is the file that apt on this machine shall read.

    A keyring that pillar key image:keyrings lists is the checkout's copy, any other this machine's own file. Raises
    VaultCubeError if a file is missing, or if the copy holds other keys than the pillar names.
    """
    return [source.model_copy(update={"keyring": str(_keyring(space, source))}) for source in chosen]


def _keyring(space: Workspace, source: Source) -> Path:
    expected = space.settings.image.keyrings.get(source.keyring)
    if expected is None:
        file = Path(source.keyring)
        if not file.is_file():
            raise VaultCubeError(
                f"{file}: keyring of archive {source.archive} is missing on this machine: install the package that has "
                f"it, or put it into {FOLDER}/{file.stem}.asc and its fingerprints into pillar key image:keyrings"
            )
        return file
    file = space.checkout / FOLDER / f"{Path(source.keyring).stem}.asc"
    key = f"pillar key image:keyrings:{source.keyring}"
    try:
        held = openpgp.primary_keys(file.read_bytes())
    except OSError as err:
        raise VaultCubeError(f"{file}: {err.strerror}, but {key} lists it: restore the file") from None
    except ValueError as err:
        raise VaultCubeError(f"{file}: not a keyring ({err}): restore the file") from None
    if sorted(held) != sorted(expected):
        raise VaultCubeError(
            f"{file}: holds the keys {', '.join(held)}, {key} names {', '.join(expected)}: restore the file, "
            "or correct the pillar if the archive has a new key"
        )
    return file
