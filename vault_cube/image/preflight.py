"""Checks before a build: everything that can be verified before the first download."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import requests

from vault_cube import process, verdicts
from vault_cube.errors import VaultCubeError
from vault_cube.image import needs
from vault_cube.image.inputs import Inputs, Locks
from vault_cube.image.layers import chroot, tools
from vault_cube.image.locks import mirrors, wheel_rules
from vault_cube.image.store import Store, existing
from vault_cube.image.workspace import LAYERS, Workspace

COMMANDS = {
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    # the boot test at the end of a build needs these; report a missing one before the build starts
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


def check(space: Workspace) -> verdicts.Report:
    """Run all checks. Raises VaultCubeError with one line per problem."""
    report = verdicts.Report(f"preflight of {space.target}", list(verdicts.run(CHECKS, space)))
    problems = [verdict.evidence for verdict in report.verdicts if verdict.bad]
    if problems:
        # several checks read the locks: report a missing lock only once
        raise VaultCubeError("\n".join(dict.fromkeys(problems)))
    return report


def is_root(space: Workspace) -> str:
    """Check that the build runs as root, which it needs to mount layers and to set the owners of files."""
    if os.geteuid() != 0:
        raise VaultCubeError(f"building an image of {space.target} requires root: run `sudo make image`")
    return "running as root"


def has_commands(space: Workspace) -> str:
    """Check the commands that must be installed on this machine; all others come from the tools tree."""
    missing = {package for command, package in COMMANDS.items() if not shutil.which(command, path=chroot.PATH)}
    if missing:
        raise VaultCubeError(f"commands are missing on this machine: apt-get install {' '.join(sorted(missing))}")
    return "all required commands are installed"


def can_overlay(space: Workspace) -> str:
    """Check that this machine allows namespaces, and overlay mounts on the file system of the cache."""
    if os.geteuid() != 0:
        raise verdicts.NotApplicable("only root can mount overlays")
    space.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=space.cache) as folder:
        for name in ("a", "b", "work", "merged"):
            (Path(folder) / name).mkdir()
        mount = ["mount", "-t", "overlay", "overlay", "-o", "lowerdir=a,upperdir=b,workdir=work", "merged"]
        ran = process.run([*chroot.unshare(False), *mount], cwd=Path(folder), ok=None)
    if ran.returncode:
        raise VaultCubeError(
            f"{space.cache}: cannot mount an overlay here ({ran.stderr.strip()}): "
            "set VAULT_CUBE_CACHE to a folder on ext4"
        )
    return "overlay mounts work"


def has_locks(space: Workspace) -> str:
    """Check that all locks are readable, contain every package that the pillar names, and are compatible."""
    locks = Locks.read(space)
    debs = [*locks.packages.debs, *locks.tools.debs]
    locked = {(deb.layer if deb.layer == tools.LAYER else "", deb.name) for deb in debs}
    settings = space.settings
    named = {"image:root_packages": settings.image.root_packages}
    named |= {f"{layer}:packages": getattr(settings, layer).packages for layer in LAYERS}
    lacking = [f"{name} ({key})" for key, names in named.items() for name in names if ("", name) not in locked]
    lacking += [f"{name} (image:tools)" for name in settings.image.tools.packages if (tools.LAYER, name) not in locked]
    if lacking:
        raise VaultCubeError(
            f"{space.locks}: these packages are in the pillar but not locked: {', '.join(lacking[:5])}: "
            f"run `make lock TARGET={space.target}`"
        )
    wheel_rules.check(settings, locks.wheels, {name for layer, name in locked if not layer})
    return f"{len(debs)} packages, {sum(map(len, locks.wheels.values()))} wheels"


def has_time(space: Workspace) -> str:
    """Check that the clock is later than the lock's timestamp: file times are clamped down to that, never up."""
    epoch = Locks.read(space).packages.epoch
    if time.time() < epoch:
        raise VaultCubeError(
            f"this machine's clock is behind {space.locks}/apt.lock by {int(epoch - time.time())} s: set the clock"
        )
    return "the clock is later than the lock's timestamp"


def has_room(space: Workspace) -> str:
    """Check that the disk has room for the downloads, the layers and the image."""
    try:
        needed = needs.of(space, Inputs.read(space))
    except VaultCubeError:
        raise verdicts.NotApplicable("no locks could be read") from None
    free = shutil.disk_usage(existing(space.cache)).free
    disk, download = needs.gigabytes(needed.disk), needs.gigabytes(needed.download)
    if free < needed.disk:
        raise VaultCubeError(
            f"{space.cache}: {disk} needed, {download} of it for downloads, {needs.gigabytes(free)} free: "
            "make room, or set VAULT_CUBE_CACHE"
        )
    return f"{needs.gigabytes(free)} free, {disk} needed, {download} of it for downloads"


def can_reach(space: Workspace) -> str:
    """Check that a mirror of each archive and vendor repository answers if the store lacks files from there."""
    settings, store = space.settings, Store(space.store)
    indexes: dict[str, list[str]] = {}
    """The URLs of each archive's signed index; at least one per archive has to answer."""
    for source in settings.archive.sources:
        urls = mirrors.live(source, settings.image.mirrors, settings.target.architecture)
        indexes.setdefault(source.archive, [f"{url}/dists/{source.suites[0]}/InRelease" for url in urls])
    for repository in [*settings.driver.repositories, *settings.runtime.repositories]:
        url = settings.image.mirrors.get(repository.name, repository.uri).rstrip("/")
        suite = repository.suite
        index = f"{url}/{suite}" if suite.endswith("/") else f"{url}/dists/{suite}"
        indexes[repository.name] = [f"{index.rstrip('/')}/InRelease"]
    try:
        lacking = {deb.archive for deb in Locks.read(space).packages.debs if not store.has(deb.sha256)}
    except VaultCubeError:
        lacking = set(indexes)
    unreachable = [
        indexes[name][-1] for name in sorted(lacking & indexes.keys()) if not any(map(_answers, indexes[name]))
    ]
    if unreachable:
        raise VaultCubeError(
            f"{space.target}: cannot reach {', '.join(unreachable)} from here: "
            "name a mirror in pillar key image:mirrors, or copy a bundle to this machine (`make bundle`)"
        )
    return "all archives answer" if lacking else "no network needed: the store has all packages"


def _answers(address: str) -> bool:
    try:
        return requests.head(address, timeout=5, allow_redirects=True).status_code < 400
    except requests.RequestException:
        return False


CHECKS: tuple[verdicts.Check, ...] = (
    is_root,
    has_commands,
    has_locks,
    has_time,
    can_reach,
    can_overlay,
    has_room,
)
