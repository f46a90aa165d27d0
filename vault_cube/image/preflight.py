"""Checks before a build: everything that can be verified before the first download."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlparse

import requests
import urllib3

from vault_cube import verdicts
from vault_cube.errors import VaultCubeError
from vault_cube.image import needs, privileges
from vault_cube.image.inputs import Inputs, Locks
from vault_cube.image.layers import chroot, tools
from vault_cube.image.locks import mirrors, pylock, vendors, wheel_rules
from vault_cube.image.store import Client, Store, existing, refusal
from vault_cube.image.workspace import LAYERS, Workspace
from vault_cube.settings.image import Source

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


ANSWER_S = 5
"""Connect timeout and read timeout of a check, in seconds."""


@dataclass(frozen=True)
class Builder:
    """This machine and the target that it will build; the locks are read once for all checks."""

    space: Workspace

    @cached_property
    def locks(self) -> Locks:
        """The locks of the target. Raises VaultCubeError."""
        return Locks.read(self.space)

    @cached_property
    def inputs(self) -> Inputs:
        """The locks and the keys of the target. Raises VaultCubeError."""
        return Inputs.of(self.space, self.locks)


def check(space: Workspace) -> verdicts.Report:
    """Run all checks. Raises VaultCubeError with one line per problem."""
    report = verdicts.Report(f"preflight of {space.target}", list(verdicts.run(CHECKS, Builder(space))))
    problems = [verdict.evidence for verdict in report.verdicts if verdict.bad]
    if problems:
        # several checks read the locks: report a missing lock only once
        raise VaultCubeError("\n".join(dict.fromkeys(problems)))
    return report


def is_root(builder: Builder) -> str:
    """Check that the build runs as root, which it needs to mount layers and to set the owners of files."""
    if os.geteuid() != 0:
        raise VaultCubeError(f"building an image of {builder.space.target} requires root: run `sudo make image`")
    return "running as root"


def has_commands(builder: Builder) -> str:
    """Check the commands that must be installed on this machine; all others come from the tools tree."""
    missing = {package for command, package in COMMANDS.items() if not shutil.which(command, path=chroot.PATH)}
    if missing:
        raise VaultCubeError(f"commands are missing on this machine: apt-get install {' '.join(sorted(missing))}")
    return "all required commands are installed"


def can_build(builder: Builder) -> str:
    """Check mounts, device nodes and the file system of the cache, with the function that enters a tree."""
    return privileges.can_build(builder.space.cache)


def can_boot(_builder: Builder) -> str:
    """Check that the boot test's network can be made."""
    return privileges.can_boot()


def has_locks(builder: Builder) -> str:
    """Check that all locks are readable, contain every package that the pillar names, and are compatible."""
    space = builder.space
    locks = builder.locks
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


def has_time(builder: Builder) -> str:
    """Check that the clock is later than the lock's timestamp: file times are clamped down to that, never up."""
    space = builder.space
    epoch = builder.locks.packages.epoch
    if time.time() < epoch:
        raise VaultCubeError(
            f"this machine's clock is behind {space.locks}/apt.lock by {int(epoch - time.time())} s: set the clock"
        )
    return "the clock is later than the lock's timestamp"


def has_room(builder: Builder) -> str:
    """Check that the disk has room for the downloads, the layers and the image."""
    space = builder.space
    try:
        needed = needs.of(space, builder.inputs)
    except VaultCubeError as err:
        raise verdicts.NotApplicable("no locks could be read") from err
    free = shutil.disk_usage(existing(space.cache)).free
    disk, download = needs.gigabytes(needed.disk), needs.gigabytes(needed.download)
    if free < needed.disk:
        raise VaultCubeError(
            f"{space.cache}: {disk} needed, {download} of it for downloads, {needs.gigabytes(free)} free: "
            "make room, or set VAULT_CUBE_CACHE"
        )
    return f"{needs.gigabytes(free)} free, {disk} needed, {download} of it for downloads"


def can_reach(builder: Builder) -> str:
    """Check that a mirror of each archive and vendor repository answers if the store lacks files from there."""
    space = builder.space
    settings, store = space.settings, Store(space.store)
    indexes: dict[str, list[str]] = {}
    """The URLs of each archive's signed index; at least one per archive has to answer."""
    sources = {source.archive: source for source in reversed(settings.archive.sources)}
    for repository in [*settings.driver.repositories, *settings.runtime.repositories]:
        url = settings.image.mirrors.get(repository.name, repository.uri).rstrip("/")
        suite = repository.suite
        index = f"{url}/{suite}" if suite.endswith("/") else f"{url}/dists/{suite}"
        indexes[repository.name] = [f"{index.rstrip('/')}/InRelease"]
    try:
        lacking = {deb.archive for deb in builder.locks.packages.debs if not store.has(deb.sha256)}
    except VaultCubeError:
        lacking = indexes.keys() | sources.keys()
    # asks apt for this machine's mirrors, which takes it half a second: only for files that are missing
    indexes |= {name: _indexes(space, source) for name, source in sources.items() if name in lacking}
    _reach(space, {name: indexes[name] for name in sorted(lacking & indexes.keys())})
    return "all archives answer" if lacking else "no network needed: the store has all packages"


def _indexes(space: Workspace, source: Source) -> list[str]:
    """Return the URLs of a source's signed index, one per mirror; at least one has to answer."""
    urls = mirrors.live(source, space.settings.image.mirrors, space.settings.target.architecture)
    return [f"{url}/dists/{source.suites[0]}/InRelease" for url in urls]


def _reach(space: Workspace, indexes: Mapping[str, Sequence[str]]) -> None:
    """Request the indexes of all archives at once. Raises VaultCubeError with those of which no mirror answers."""
    with ThreadPoolExecutor(len(indexes) or 1) as pool:
        answers = list(pool.map(_first_answer, indexes.values()))
    silent = [(urls[-1], answer) for urls, answer in zip(indexes.values(), answers, strict=True) if not answer]
    if silent:
        reasons = [f"{url} ({answer.reason})" if isinstance(answer, Answer) else url for url, answer in silent]
        raise VaultCubeError(
            f"{space.target}: cannot reach {', '.join(reasons)} from here: "
            "name a mirror in pillar key image:mirrors, or copy a bundle to this machine (`make bundle`)"
        )


def can_fetch(builder: Builder) -> str:
    """Check that the servers of all missing files answer: archives, signing keys of vendors, and the package index."""
    passed, space = can_reach(builder), builder.space
    store, own_tools = Store(space.store), space.settings.image.tools
    try:
        locks = builder.locks
    except VaultCubeError:
        return passed  # has_locks reports it
    missing = {deb.archive for deb in locks.tools.debs if not store.has(deb.sha256)}
    _reach(
        space, {source.archive: _indexes(space, source) for source in own_tools.sources if source.archive in missing}
    )
    for repository in vendors.repositories(space):
        name, url = repository.name, repository.keyring.url
        answer = Answer() if store.has(locks.vendor_keys[name][0]) else _answers(url, by_apt=False)
        if not answer:
            raise VaultCubeError(f"{space.target}: cannot fetch {name}'s key from {url} ({answer.reason})")
    # the query of the fetch, but for one wheel: it takes a second
    wheels = (wheel for environment in locks.wheels.values() for wheel in environment)
    wheel = next((wheel for wheel in wheels if not store.has(wheel.sha256)), None)
    if wheel:
        with tempfile.TemporaryDirectory() as work:
            pylock.locate(space.settings, space.uv, [wheel], Path(work))
        passed += "; the package index answers"
    return passed


@dataclass(frozen=True)
class Answer:
    """Whether a URL can be fetched; false with the reason why not."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


def _first_answer(urls: Sequence[str]) -> Answer:
    """Return the first good answer of several URLs, or else the last one."""
    answer = Answer("no URL")
    for url in urls:
        answer = _answers(url)
        if answer:
            break
    return answer


def _answers(address: str, by_apt: bool = True) -> Answer:
    """Request a URL in the way of the fetch."""
    if address.startswith("file:"):
        return Answer("" if Path(unquote(urlparse(address).path)).is_file() else "no such file")
    try:
        with Client.of_machine().get(address, by_apt=by_apt, timeouts_s=(ANSWER_S, ANSWER_S)) as response:
            status = response.status_code
    except (requests.RequestException, urllib3.exceptions.HTTPError) as err:
        return Answer(str(refusal(err)))
    return Answer("" if status < 400 else f"the server returned status {status}")


CHECKS: tuple[verdicts.Check, ...] = (
    is_root,
    has_commands,
    has_locks,
    has_time,
    can_fetch,
    can_build,
    can_boot,
    has_room,
)
