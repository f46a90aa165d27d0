"""Re-resolve locked files that no server has any more, for this build only, and record the changes in its manifest.

The build's own locks are in `build/<target>/locks`, with the digest of the checkout's locks that they replace: they are
ignored as soon as the checkout's locks change. `LOCKED=1` always ignores them (see `Workspace.lock_root`).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image.inputs import Locks, lock_files
from vault_cube.image.layers import repository
from vault_cube.image.locks import pylock, resolve, resolver, vendors, wheel_rules
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace, locks_digest
from vault_cube.settings.frameworks import Environment


def forget(space: Workspace) -> None:
    """Remove the build's own locks, so that the checkout's locks apply again."""
    shutil.rmtree(space.build / "locks", ignore_errors=True)


def renew(space: Workspace, locks: Locks, gone: set[str]) -> list[str]:
    """Re-resolve the packages whose files are gone, keep all others as locked, and write the build's own locks.

    gone: SHA-256 of files that no server has any more; all other locked files must be in the store. Returns the
    changes against the checkout's locks, one line per package. Raises VaultCubeError if no current package can replace
    a missing one, or if a replacement breaks a rule of wheel_rules.
    """
    epoch = int(time.time())  # later than the files of all packages that are available now
    target, committed = space.target, space.checkout / "locks"
    with space.scratch("relock") as work:
        vendors.lay_out(Store(space.store), locks.vendor_keys, work / "keyrings")
        texts = {str(file.relative_to(space.lock_root)): file.read_text() for file in lock_files(space)}
        tools, packages = (
            _debs(space, request, lock, gone, epoch=epoch, folder=work / request.file)
            for request, lock in (
                (resolve.of_tools(space), locks.tools),
                (resolve.of_target(space, work / "keyrings"), locks.packages),
            )
        )
        wheels = {
            name: _wheels(space, locks.wheels[name], environment, gone, folder=work / f"python-{name}")
            for name, environment in resolve.environments(space).items()
        }
        wheel_rules.check(space.settings, wheels, {deb.name for deb in packages.debs})
        texts |= {"tools.lock": tools.text(), f"{target}/apt.lock": packages.text()}
        texts |= {f"{target}/python-{name}.lock": pylock.text(locked) for name, locked in wheels.items()}
        lines = [line for file, text in texts.items() for line in resolve.difference(committed / file, text)]
        for file, text in texts.items():
            (work / "locks" / file).parent.mkdir(parents=True, exist_ok=True)
            (work / "locks" / file).write_text(text)
        (work / "locks/moved.json").write_text(json.dumps(lines, indent=1))
        (work / "locks/of").write_text(locks_digest(committed, target))
        forget(space)
        shutil.move(work / "locks", space.build / "locks")
    return lines


def _debs(
    space: Workspace, request: resolve.Request, lock: AptLock, gone: set[str], *, epoch: int, folder: Path
) -> AptLock:
    """Return an apt lock with the missing packages replaced."""
    available = [deb for deb in lock.debs if deb.sha256 not in gone]
    if len(available) == len(lock.debs):
        return lock
    repository.make(Store(space.store), available, folder, request.codename)
    mirrors = space.settings.image.mirrors
    try:
        return request.resolve(mirrors, epoch, resolver.Kept(folder, available))
    except VaultCubeError:
        # a new package may need newer versions of packages that are still available
        return request.resolve(mirrors, epoch, resolver.Kept(folder, available, pinned=False))


def _wheels(
    space: Workspace, wheels: Sequence[pylock.Wheel], environment: Environment, gone: set[str], *, folder: Path
) -> Sequence[pylock.Wheel]:
    """Return the wheels of an environment with the missing ones replaced."""
    available = [wheel for wheel in wheels if wheel.sha256 not in gone]
    if len(available) == len(wheels):
        return wheels
    Store(space.store).link([(wheel.sha256, wheel.file) for wheel in available], folder)
    arguments = (space.settings, space.uv, environment, folder)
    try:
        return pylock.resolve(*arguments, kept=pylock.Kept(folder, available))
    except VaultCubeError:
        return pylock.resolve(*arguments, kept=pylock.Kept(folder, available, pinned=False))
