"""Everything that can be known before the first byte is fetched: who, where, with what, from where."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests

from vault_cube.errors import VaultCubeError
from vault_cube.image import needs
from vault_cube.image.layers import chroot, tools
from vault_cube.image.locks import mirrors, pylock, wheel_rules
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.store import Store, existing
from vault_cube.image.workspace import LAYERS, Workspace

COMMANDS = {
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mmdebstrap": "mmdebstrap",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    # for the boot test, at the end: told before the beginning
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


def check(space: Workspace) -> list[str]:
    """Run all checks. Returns what was found good, a line each. Raises VaultCubeError naming all that is not."""
    good: list[str] = []
    bad: list[str] = []
    for one in CHECKS:
        try:
            good.append(one(space))
        except VaultCubeError as err:
            bad.append(str(err))
    if bad:
        # a missing lock is told once, not by each check that would have read it
        raise VaultCubeError("\n".join(dict.fromkeys(bad)))
    return good


def is_root(space: Workspace) -> str:
    """Mounting layers and owning a tree's files takes root."""
    if os.geteuid() != 0:
        raise VaultCubeError(f"an image of {space.target} is built by root: run `sudo make image`")
    return "runs as root"


def has_commands(space: Workspace) -> str:
    """The few commands that this machine itself must have; all others come from the tools tree."""
    missing = {package for command, package in COMMANDS.items() if not shutil.which(command, path=chroot.PATH)}
    if missing:
        raise VaultCubeError(f"commands are missing on this machine: apt-get install {' '.join(sorted(missing))}")
    return "has the commands it needs"


def can_overlay(space: Workspace) -> str:
    """Layers need namespaces and an overlay mount on the cache's file system."""
    if os.geteuid() != 0:
        return "overlay mounts are tried as root only"
    space.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=space.cache) as folder:
        for name in ("a", "b", "work", "merged"):
            (Path(folder) / name).mkdir()
        mount = ["mount", "-t", "overlay", "overlay", "-o", "lowerdir=a,upperdir=b,workdir=work", "merged"]
        ran = subprocess.run([*chroot.unshare(False), *mount], cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise VaultCubeError(
            f"{space.cache}: no overlay mount here ({ran.stderr.strip()}): set VAULT_CUBE_CACHE to a folder on ext4"
        )
    return "mounts overlays"


def has_locks(space: Workspace) -> str:
    """All locks are there and readable, hold every package that the pillar names, and fit together."""
    debs = [*AptLock.read(space.locks / "apt.lock").debs, *tools.lock(space).debs]
    wheels = {
        name: pylock.read(space.locks / f"python-{name}.lock")
        for name in ("salt", *space.settings.frameworks.environments)
    }
    locked = {(deb.layer if deb.layer == tools.LAYER else "", deb.name) for deb in debs}
    settings = space.settings
    named = {"image:root_packages": settings.image.root_packages}
    named |= {f"{layer}:packages": getattr(settings, layer).packages for layer in LAYERS}
    lacking = [f"{name} ({key})" for key, names in named.items() for name in names if ("", name) not in locked]
    lacking += [f"{name} (image:tools)" for name in settings.image.tools.packages if (tools.LAYER, name) not in locked]
    if lacking:
        raise VaultCubeError(
            f"{space.locks}: the pillar names what is not locked: {', '.join(lacking[:5])}: "
            f"run `make lock TARGET={space.target}`"
        )
    wheel_rules.check(settings, wheels, {name for layer, name in locked if not layer})
    return f"has locks: {len(debs)} packages, {sum(map(len, wheels.values()))} wheels"


def has_time(space: Workspace) -> str:
    """The clock is past the lock's moment: times of built files are clamped down to it, never up."""
    epoch = AptLock.read(space.locks / "apt.lock").epoch
    if time.time() < epoch:
        raise VaultCubeError(
            f"this machine's clock is behind {space.locks}/apt.lock by {int(epoch - time.time())} s: set the clock"
        )
    return "has a clock past the lock's moment"


def has_room(space: Workspace) -> str:
    """There is room for the downloads, the layers and the image."""
    try:
        needed = needs.of(space)
    except VaultCubeError:
        return "room is checked once there are locks"
    free = shutil.disk_usage(existing(space.cache)).free
    disk, download = needs.gigabytes(needed.disk), needs.gigabytes(needed.download)
    if free < needed.disk:
        raise VaultCubeError(
            f"{space.cache}: {disk} needed, {download} of it for downloads, {needs.gigabytes(free)} free: "
            "make room, or set VAULT_CUBE_CACHE"
        )
    return f"has room: {needs.gigabytes(free)} free, {disk} needed, {download} of it for downloads"


def can_reach(space: Workspace) -> str:
    """What the store lacks can be fetched: each archive, the vendors' too, answers at one of its places."""
    settings, store = space.settings, Store(space.store)
    places: dict[str, list[str]] = {}
    """archive -> addresses of a signed index, one of which has to answer"""
    for source in settings.archive.sources:
        found = mirrors.live(source, settings.image.mirrors, settings.target.architecture)
        places.setdefault(source.archive, [f"{place}/dists/{source.suites[0]}/InRelease" for place in found])
    for vendor in [*settings.driver.repositories, *settings.runtime.repositories]:
        place = settings.image.mirrors.get(vendor.name, vendor.uri).rstrip("/")
        index = f"{place}/{vendor.suite}" if vendor.suite.endswith("/") else f"{place}/dists/{vendor.suite}"
        places[vendor.name] = [f"{index.rstrip('/')}/InRelease"]
    try:
        lacking = {deb.archive for deb in AptLock.read(space.locks / "apt.lock").debs if not store.has(deb.sha256)}
    except VaultCubeError:
        lacking = set(places)
    unreachable = [places[name][-1] for name in sorted(lacking & places.keys()) if not any(map(_answers, places[name]))]
    if unreachable:
        raise VaultCubeError(
            f"{space.target}: cannot reach {', '.join(unreachable)} from here: "
            "name a mirror in pillar key image:mirrors, or bring a bundle (`make bundle`)"
        )
    return "reaches its archives" if lacking else "needs no network: the store has all packages"


def _answers(address: str) -> bool:
    try:
        return requests.head(address, timeout=5, allow_redirects=True).status_code < 400
    except requests.RequestException:
        return False


CHECKS: tuple[Callable[[Workspace], str], ...] = (
    is_root,
    has_commands,
    has_locks,
    has_time,
    can_reach,
    can_overlay,
    has_room,
)
