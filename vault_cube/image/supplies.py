"""Copy a target's packages and wheels into a folder, from which a box without a network repairs itself.

vault_cube/repair/packages.py reads `debs/`, and vault_cube/python_env/environments.py reads `wheels/`. A box accepts
only files that its own locks name.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from vault_cube.image import recipe
from vault_cube.image.inputs import Locks
from vault_cube.image.layers import repository
from vault_cube.image.progress import step
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace


def make(space: Workspace, folder: Path, *, wheels: bool) -> int:
    """Write `debs/` and, if asked, `wheels/` to a folder, such as one of a mounted stick. Returns their size in bytes.

    Files that exist there are replaced. Raises VaultCubeError if a locked file cannot be had.
    """
    with space.exclusive(), space.scratch("supplies") as work:
        recipe.make_fetch(space)
        locks = Locks.read(space)
        with step(f"supplies: {folder}"):
            store = Store(space.store)
            repository.make(store, locks.packages.debs, work / "debs", space.settings.target.codename)
            parts = ["debs"]
            if wheels:
                files = {(wheel.sha256, wheel.file) for part in locks.wheels.values() for wheel in part}
                store.link(sorted(files), work / "wheels")
                parts.append("wheels")
            for part in parts:
                shutil.rmtree(folder / part, ignore_errors=True)
                # the stick's file system has neither links nor modes
                shutil.copytree(work / part, folder / part, copy_function=shutil.copyfile)
        return sum(file.stat().st_size for part in parts for file in (folder / part).iterdir())
