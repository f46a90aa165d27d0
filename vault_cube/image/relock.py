"""A locked file that nobody serves any more: resolved anew for this build alone, and told in its manifest.

What moved lies in `build/<target>/locks`, with the digest of the checkout's locks that it stands in for: once those
change it counts no more. `LOCKED=1` never sees it (see `Workspace.lock_root`).
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image.layers import repository
from vault_cube.image.locks import pylock, resolve, resolver, vendors
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace, locks_digest
from vault_cube.settings.environment import Environment


def moved(space: Workspace) -> list[str]:
    """What this build has other than the checkout's locks say, a line a package; empty: it matches them."""
    if space.lock_root == space.checkout / "locks":
        return []
    found: list[str] = json.loads((space.lock_root / "moved.json").read_text())
    return found


def forget(space: Workspace) -> None:
    """From now on the checkout's locks count again."""
    shutil.rmtree(space.build / "locks", ignore_errors=True)


def renew(space: Workspace, gone: set[str]) -> list[str]:
    """Resolve anew what the files of `gone` (sha256) belong to, everything else staying as it is locked.

    All other locked files are in the store. Writes the locks of this build. Returns what moved against the checkout's
    locks, a line a package. Raises VaultCubeError when no package of today can take the place.
    """
    epoch = int(time.time())  # later than the files of every package that can be had now
    target, committed = space.target, space.checkout / "locks"
    with space.scratch("relock") as work:
        vendors.lay_out(Store(space.store), vendors.read(space), work / "keyrings")
        files = [space.tools_lock, *sorted(space.locks.glob("*.lock"))]
        texts = {str(file.relative_to(space.lock_root)): file.read_text() for file in files}
        texts |= {
            request.file: _debs(space, request, gone, epoch, work / request.file)
            for request in (resolve.of_tools(space), resolve.of_target(space, work / "keyrings"))
        }
        for name, environment in resolve.environments(space).items():
            texts[f"{target}/python-{name}.lock"] = _wheels(space, name, environment, gone, work / f"python-{name}")
        lines = [line for file, text in texts.items() for line in resolve.difference(committed / file, text)]
        for file, text in texts.items():
            (work / "locks" / file).parent.mkdir(parents=True, exist_ok=True)
            (work / "locks" / file).write_text(text)
        (work / "locks/moved.json").write_text(json.dumps(lines, indent=1))
        (work / "locks/of").write_text(locks_digest(committed, target))
        forget(space)
        shutil.move(work / "locks", space.build / "locks")
    return lines


def _debs(space: Workspace, request: resolve.Request, gone: set[str], epoch: int, folder: Path) -> str:
    """The text of an apt lock without the files that are gone."""
    lock = AptLock.read(space.lock_root / request.file)
    kept = [deb for deb in lock.debs if deb.sha256 not in gone]
    if len(kept) == len(lock.debs):
        return lock.text()
    repository.make(Store(space.store), kept, folder, request.codename)
    mirrors = space.settings.image.mirrors
    try:
        return request.resolve(mirrors, epoch, resolver.Kept(folder, kept)).text()
    except VaultCubeError:
        # a new package may need newer ones beside it
        return request.resolve(mirrors, epoch, resolver.Kept(folder, kept, pinned=False)).text()


def _wheels(space: Workspace, name: str, environment: Environment, gone: set[str], folder: Path) -> str:
    """The text of a Python lock without the files that are gone."""
    wheels = pylock.read(space.locks / f"python-{name}.lock")
    kept = [wheel for wheel in wheels if wheel.sha256 not in gone]
    if len(kept) == len(wheels):
        return pylock.text(wheels)
    Store(space.store).link([(wheel.sha256, wheel.file) for wheel in kept], folder)
    arguments = (space.settings, space.uv, environment, folder)
    try:
        return pylock.text(pylock.resolve(*arguments, kept=pylock.Kept(folder, kept)))
    except VaultCubeError:
        return pylock.text(pylock.resolve(*arguments, kept=pylock.Kept(folder, kept, pinned=False)))
