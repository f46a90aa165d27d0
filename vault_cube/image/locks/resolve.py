"""`make lock`: resolve all packages again and write the locks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vault_cube.errors import VaultCubeError
from vault_cube.image.locks import keyrings, locktext, pylock, resolver, vendors, wheel_rules
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.progress import step
from vault_cube.image.store import Store
from vault_cube.image.workspace import KEYRINGS, LAYERS, ROOT, Workspace
from vault_cube.settings.frameworks import Environment
from vault_cube.settings.image import Source
from vault_cube.settings.repository import Repository


@dataclass(frozen=True)
class Resolved:
    """The result of `make lock`."""

    moved: list[str]
    """Changes against the previous locks, one line each; empty if nothing changed."""
    packages: AptLock
    """The lock of the target, without the tools tree."""
    wheels: dict[str, list[pylock.Wheel]]
    """The locked wheels of each Python environment, by its name."""


def make(space: Workspace) -> Resolved:
    """Resolve the target's packages, its Python environments and the tools tree, then write all locks that changed.

    Raises VaultCubeError if anything cannot be resolved or breaks a rule of wheel_rules; no lock is written then.
    """
    settings, committed = space.settings, space.checkout / "locks"
    # later than the files of all available packages, and earlier than any build: newer file times are clamped to it
    epoch = int(time.time())
    texts: dict[Path, str] = {}
    packages: dict[str, AptLock] = {}
    wheels: dict[str, list[pylock.Wheel]] = {}
    vendor_keys = vendors.lock(space)
    if vendor_keys:
        texts[committed / space.target / KEYRINGS] = vendors.text(vendor_keys)
    with space.scratch("lock") as work:
        vendors.lay_out(Store(space.store), vendor_keys, work / "keyrings")
        target = of_target(space, work / "keyrings")
        for request in (of_tools(space), target):
            with step(request.file):
                packages[request.file] = request.resolve(settings.image.mirrors, epoch)
                texts[committed / request.file] = packages[request.file].text()
        for name, environment in environments(space).items():
            file = f"{space.target}/python-{name}.lock"
            with step(file):
                wheels[name] = pylock.resolve(settings, space.uv, environment, work)
                texts[committed / file] = pylock.text(wheels[name])
        wheel_rules.check(settings, wheels, {deb.name for deb in packages[target.file].debs})
    moved = [line for lock, text in texts.items() for line in difference(lock, text)]
    own = committed / space.target
    unused = {*own.glob("python-*.lock"), *own.glob(KEYRINGS)} - set(texts)
    moved += [f"{lock.parent.name}/{lock.name}: removed, nothing uses it" for lock in sorted(unused)]
    # an unchanged lock keeps its timestamp: a new one would change the keys of all layers
    for lock, text in texts.items():
        if difference(lock, text):
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.with_suffix(".new").write_text(text)
            lock.with_suffix(".new").replace(lock)
    for lock in unused:
        lock.unlink()
    return Resolved(moved, packages[target.file], wheels)


@dataclass(frozen=True)
class Request:
    """Everything that apt needs to resolve one lock."""

    file: str
    """Path of the lock below `locks/`."""
    layers: Sequence[tuple[str, Sequence[str]]]
    """(name, packages) of each layer, from the bottom up."""
    sources: Sequence[Source]
    architecture: str
    codename: str
    named: Mapping[str, Sequence[str]]
    """Pillar key -> packages that it names; the archives must have them all, even if no layer installs them."""
    repositories: Sequence[Repository] = ()
    """The vendors' repositories among the sources."""
    kernel: str | None = None
    """Kernel package of the pillar; None if the lock needs no kernel."""

    def resolve(self, mirrors: dict[str, str], epoch: int, kept: resolver.Kept | None = None) -> AptLock:
        """Resolve the lock with apt against the current archives.

        mirrors: pillar key image:mirrors. epoch: the lock's timestamp, in seconds since 1970. kept: packages to keep
        from an older lock. Raises VaultCubeError with the name of the lock.
        """
        try:
            lock = resolver.resolve(
                self.layers, self.sources, mirrors, self.architecture, epoch, kept=kept, named=self.named,
                pins=vendors.preferences(self.repositories) if self.repositories else "", kernel=self.kernel,
            )  # fmt: skip
            vendors.check_pins(self.repositories, lock.debs)
        except VaultCubeError as err:
            raise VaultCubeError(f"locks/{self.file}: {err}") from err
        return lock


def of_tools(space: Workspace) -> Request:
    """Make the request for the lock of the tools tree, which all targets share."""
    tools = space.settings.image.tools
    sources, named = keyrings.sources(space, tools.sources), {"image:tools:packages": tools.packages}
    return Request("tools.lock", [("tools", tools.packages)], sources, "amd64", tools.codename, named)


def of_target(space: Workspace, vendor_keys: Path) -> Request:
    """Make the request for the lock of a target's root and layers. vendor_keys: folder of the vendors' keys."""
    settings, target = space.settings, space.settings.target
    layers = [(ROOT, settings.image.root_packages), *((name, getattr(settings, name).packages) for name in LAYERS)]
    named = {f"{name}:packages": packages for name, packages in layers if name != ROOT}
    named |= {"image:root_packages": settings.image.root_packages, "driver:held": settings.driver.held}
    kernel = settings.base.kernel.package
    return Request(
        f"{target.name}/apt.lock",
        layers,
        [*keyrings.sources(space, settings.archive.sources), *vendors.sources(space, vendor_keys)],
        target.architecture,
        target.codename,
        named,
        vendors.repositories(space),
        kernel if any(kernel in names for _, names in layers) else None,
    )


def environments(space: Workspace) -> dict[str, Environment]:
    """Return the Python environments of a target, with Salt's own first: name -> environment."""
    return {"salt": space.settings.image.salt, **space.settings.frameworks.environments}


def difference(file: Path, text: str) -> list[str]:
    """Compare the text of a new lock with the existing file.

    Returns one line per package that changed, such as `pytorch: torch 2.12.0 → 2.13.0`, with security updates marked.
    If the file does not exist yet, returns one line in total. Empty if nothing changed.
    """
    where, after = f"{file.parent.name}/{file.name}", _versions(file.name, text)
    if not file.exists():
        return [f"{where}: new, {len(after)} entries"]
    before = _versions(file.name, file.read_text(errors="replace"))
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old and new and old.same_file(new):
            continue
        lines.append(f"{where}: {name} {_change(old, new)}")
    if not lines and not _readable(file):
        return [f"{where}: was damaged or in an older format; written again"]
    return lines


def _readable(file: Path) -> bool:
    """Return whether an existing lock is valid."""
    try:
        if file.name.startswith("python-"):
            pylock.read(file)
        elif file.name == KEYRINGS:
            locktext.verify(file, locktext.read(file))
        else:
            AptLock.read(file)
    except VaultCubeError:
        return False
    return True


def _change(old: Locked | None, new: Locked | None) -> str:
    """Describe how a package changed."""
    if old is None or new is None:
        return f"– → {new.version}" if new else f"{old.version if old else ''} → –"  # noqa: RUF001
    if old.version != new.version:
        return f"{old.version} → {new.version}" + (" (security)" if "security" in new.suite else "")
    if old.sha256 != new.sha256:
        return f"{new.version}: different file of the same version"
    return f"{new.version}: moved from layer {old.layer} to {new.layer}"


class Locked(NamedTuple):
    """The fields of a locked package whose changes are reported."""

    version: str
    sha256: str
    layer: str = ""
    suite: str = ""

    def same_file(self, other: Locked) -> bool:
        """Return whether both are one file in one layer. Its suite may differ: that changes nothing in an image."""
        return (self.version, self.sha256, self.layer) == (other.version, other.sha256, other.layer)


def _versions(name: str, text: str) -> dict[str, Locked]:
    packages = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        parts = line.split(" ")
        if len(parts) < (8 if name in ("apt.lock", "tools.lock") else 2):
            continue  # a damaged line; the lock will be written again
        if name.startswith("python-"):
            package, _, version = parts[0].partition("==")
            packages[package] = Locked(version, parts[1])
        elif name == KEYRINGS:
            packages[parts[0]] = Locked(parts[1][:12], parts[1])
        else:
            packages[f"{parts[1]}:{parts[3]}"] = Locked(parts[2], parts[7], parts[0], parts[4])
    return packages
