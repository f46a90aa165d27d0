"""Copy a target's packages and wheels into a folder, from which a box without a network repairs itself.

vault_cube/repair/packages.py reads `debs/`, and vault_cube/python_env/environments.py reads `wheels/`. A box accepts
only files that its own locks name.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image import recipe
from vault_cube.image.inputs import Locks
from vault_cube.image.layers import repository
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.locks.pylock import Wheel
from vault_cube.image.progress import step
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace


def make(space: Workspace, folder: Path, *, wheels: bool) -> int:
    """Fetch what is missing, and write `debs/` and, if asked, `wheels/` to a folder, such as that of a mounted stick.

    Returns the size in bytes. Raises VaultCubeError if a locked file cannot be had, or if the folder cannot be written.
    """
    with space.exclusive(), space.scratch("supplies") as work:
        recipe.make_fetch(space)
        locks = Locks.read(space)
        with step(f"supplies: {folder}"):
            chosen = [wheel for part in locks.wheels.values() for wheel in part] if wheels else []
            return write(
                Store(space.store),
                locks.packages.debs,
                chosen,
                space.settings.target.codename,
                work=work,
                folder=folder,
            )


def write(
    store: Store, debs: Sequence[Deb], wheels: Sequence[Wheel], codename: str, *, work: Path, folder: Path
) -> int:
    """Write `debs/` and `wheels/` to a folder, in the place of those that are there. Returns their size in bytes.

    work: an empty folder on the store's file system. Raises VaultCubeError if the folder cannot be written.
    """
    repository.make(store, debs, work / "debs", codename)
    if wheels:
        store.link(sorted({(wheel.sha256, wheel.file) for wheel in wheels}), work / "wheels")
    try:
        for part in sorted(work.iterdir()):
            shutil.rmtree(folder / part.name, ignore_errors=True)
            # a stick's file system has neither links nor modes
            shutil.copytree(part, folder / part.name, copy_function=shutil.copyfile)
    except OSError as err:
        # shutil lists the errors of all files
        raise VaultCubeError(f"{folder}: {err.strerror or 'files cannot be copied'}: mount it, or make room") from err
    return sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
