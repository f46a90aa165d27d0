"""What the cache may take of the disk: the limit after each build, and all of it given back on request."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import layer_cache
from vault_cube.image.cache.keys import KEYRINGS
from vault_cube.image.locks import pylock
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.progress import note, step
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace, sweep

GIB = 1 << 30


def limit(space: Workspace, keep_keys: Iterable[str]) -> list[str]:
    """Hold layers and store within the pillar's `image:cache_gib` each; least recently used go first.

    Never the layers of `keep_keys`, and never a file that a lock of this checkout names. Returns what went.
    """
    most = space.settings.image.cache_gib * GIB
    gone = [f"layer {name}" for name in layer_cache.evict(space.layers, most, keep_keys)]
    try:
        named = locked_files(space.checkout)
    except VaultCubeError as err:
        # another target's lock: no reason to fail a build that is finished, nor to take away what it names
        note(f"[yellow]{err}; until then the store keeps everything[/]")
        return gone
    freed = Store(space.store).evict(most, named)
    return gone + ([f"{freed / GIB:.1f} GiB of files that no lock here names"] if freed else [])


def locked_files(checkout: Path) -> set[str]:
    """The sha256 of every file that any lock of a checkout names."""
    named: set[str] = set()
    # the locks of builds that could not have what the checkout's name stand in build/
    for file in [*(checkout / "locks").rglob("*.lock"), *checkout.glob("build/*/locks/**/*.lock")]:
        if file.name.startswith("python-"):
            named |= {wheel.sha256 for wheel in pylock.read(file)}
        elif file.name in ("apt.lock", "tools.lock"):
            named |= {deb.sha256 for deb in AptLock.read(file).debs}
        elif file.name == KEYRINGS:
            named |= set(re.findall(r"\b[0-9a-f]{64}\b", file.read_text()))
    return named


def clean(space: Workspace) -> list[str]:
    """Remove layers, store and what dead builds left, of all targets. Returns what it freed, a line each.

    Raises VaultCubeError while a build uses them.
    """
    work = space.cache / "work"
    sweep(work)
    running = sorted(lock.stem for lock in work.glob("*.lock"))
    if running:
        raise VaultCubeError(f"{space.cache}: in use by {', '.join(running)}: wait for that build, or stop it")
    freed = []
    for what, folder in (("layers", space.layers), ("store", space.store), ("scratch", work)):
        if not folder.is_dir():
            continue
        size = _bytes(folder)
        with step(f"{folder}: {size / GIB:.1f} GiB of {what} go"):
            shutil.rmtree(folder)
        freed.append(f"{what}: {size / GIB:.1f} GiB freed ({folder})")
    return freed or [f"{space.cache}: there is nothing"]


def _bytes(folder: Path) -> int:
    """What a folder takes on the disk, bytes; a hard link counts once."""
    ran = subprocess.run(["du", "-s", "--block-size=1", folder], capture_output=True, text=True, check=False)
    return int(ran.stdout.split("\t")[0] or 0)
