"""The keys that sign the distributions' archives: stored in `locks/keyrings/` and checked by their fingerprints.

No release of Debian or Ubuntu contains the keyrings of all others: see docs/decisions/keyrings-in-the-checkout.md.
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
    """Return copies of apt sources whose `keyring` is an existing file on this machine.

    For keyrings in pillar key image:keyrings this is the checkout's copy, for all others the file itself. Raises
    VaultCubeError if a file is missing, or if the copy's keys differ from the pillar's fingerprints.
    """
    return [source.model_copy(update={"keyring": str(_keyring(space, source))}) for source in chosen]


def _keyring(space: Workspace, source: Source) -> Path:
    expected = space.settings.image.keyrings.get(source.keyring)
    if expected is None:
        file = Path(source.keyring)
        if not file.is_file():
            raise VaultCubeError(
                f"{file}: keyring of archive {source.archive} is missing on this machine: install the "
                f"package that contains it, or put it into {FOLDER}/{file.stem}.asc and its fingerprints into "
                "pillar key image:keyrings"
            )
        return file
    file = space.checkout / FOLDER / f"{Path(source.keyring).stem}.asc"
    key = f"pillar key image:keyrings:{source.keyring}"
    try:
        fingerprints = openpgp.primary_keys(file.read_bytes())
    except OSError as err:
        raise VaultCubeError(f"{file}: {err.strerror}, but {key} lists it: restore the file") from err
    except ValueError as err:
        raise VaultCubeError(f"{file}: not a keyring ({err}): restore the file") from err
    if sorted(fingerprints) != sorted(expected):
        raise VaultCubeError(
            f"{file}: contains the keys {', '.join(fingerprints)}, but {key} names {', '.join(expected)}: "
            "restore the file, or correct the pillar if the archive has a new key"
        )
    return file
