"""Free disk space: evict from the cache and the store after each build, or remove both on request."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import layer_cache
from vault_cube.image.locks import pylock
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.progress import note, step
from vault_cube.image.store import Store
from vault_cube.image.workspace import KEYRINGS, Workspace, sweep

GIB = 1 << 30


def limit(space: Workspace, keep_keys: Iterable[str]) -> list[str]:
    """Evict the least recently used entries until layers and store each take at most `image:cache_gib`.

    Layers with a key in `keep_keys` and files that a lock of this checkout names are never evicted. Returns the evicted
    layers, and the size of the evicted files, one per line.
    """
    limit_bytes = space.settings.image.cache_gib * GIB
    evicted = [f"layer {name}" for name in layer_cache.evict(space.layers, limit_bytes, keep_keys)]
    try:
        named = locked_files(space.checkout)
    except VaultCubeError as err:
        # a damaged lock of another target must not fail this finished build; the files it names are unknown
        note(f"[yellow]{err}; nothing is evicted from the store until then[/]")
        return evicted
    freed = Store(space.store).evict(limit_bytes, named)
    return evicted + ([f"{freed / GIB:.1f} GiB of files that no lock of this checkout names"] if freed else [])


def locked_files(checkout: Path) -> set[str]:
    """Return the SHA-256 of all files that any lock of a checkout names. Raises VaultCubeError if a lock is damaged."""
    named: set[str] = set()
    # builds that had to re-resolve have locks of their own in build/
    for file in [*(checkout / "locks").rglob("*.lock"), *checkout.glob("build/*/locks/**/*.lock")]:
        if file.name.startswith("python-"):
            named |= {wheel.sha256 for wheel in pylock.read(file)}
        elif file.name in ("apt.lock", "tools.lock"):
            named |= {deb.sha256 for deb in AptLock.read(file).debs}
        elif file.name == KEYRINGS:
            named |= set(re.findall(r"\b[0-9a-f]{64}\b", file.read_text()))
    return named


def clean(space: Workspace) -> list[str]:
    """Remove the layers, the store and the scratch folders of all targets.

    Returns the space freed, one line per folder. Raises VaultCubeError if a build is running.
    """
    work = space.cache / "work"
    sweep(work)
    running = sorted(lock.stem for lock in work.glob("*.lock"))
    if running:
        raise VaultCubeError(f"{space.cache}: in use by {', '.join(running)}: wait for the build to end, or stop it")
    freed = []
    for what, folder in (("layers", space.layers), ("store", space.store), ("scratch", work)):
        if not folder.is_dir():
            continue
        size = _bytes(folder)
        with step(f"{folder}: removing {size / GIB:.1f} GiB of {what}"):
            shutil.rmtree(folder)
        freed.append(f"{what}: {size / GIB:.1f} GiB freed ({folder})")
    return freed or [f"{space.cache}: nothing to remove"]


def _bytes(folder: Path) -> int:
    """Return the disk space that a folder takes, in bytes; files with several hard links count once."""
    # du exits with 1 if a file vanished while it counted
    listing = process.run(["du", "-s", "--block-size=1", folder], ok=None).stdout
    return int(listing.split("\t")[0] or 0)
