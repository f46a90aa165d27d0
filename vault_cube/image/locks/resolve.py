"""`make lock`: resolve every package again, write the locks, and report the result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vault_cube.errors import VaultCubeError
from vault_cube.image.cache.keys import KEYRINGS, ROOT
from vault_cube.image.locks import keyrings, locktext, pylock, resolver, vendors, wheel_rules
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.progress import step
from vault_cube.image.store import Store
from vault_cube.image.workspace import LAYERS, Workspace
from vault_cube.settings.environment import Environment
from vault_cube.settings.image import Source
from vault_cube.settings.repository import Repository


@dataclass(frozen=True)
class Resolved:
    """What `make lock` found."""

    moved: list[str]
    """one line per change against the locks that were there before; empty: nothing changed"""
    packages: AptLock
    """of the target, without the tools tree"""
    wheels: dict[str, list[pylock.Wheel]]
    """by environment"""


def make(space: Workspace) -> Resolved:
    """Resolve the target's packages, its Python environments and the tools tree; write the locks all together.

    Nothing is written when anything cannot be resolved or breaks a rule of wheel_rules, or when nothing changed.
    """
    settings, committed = space.settings, space.checkout / "locks"
    # later than the files of every package that can be had, earlier than every build: newer times are clamped to it
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
        for wanted in (of_tools(space), target):
            with step(wanted.file):
                packages[wanted.file] = wanted.resolve(settings.image.mirrors, epoch)
                texts[committed / wanted.file] = packages[wanted.file].text()
        for name, environment in environments(space).items():
            named = f"{space.target}/python-{name}.lock"
            with step(named):
                wheels[name] = pylock.resolve(settings, space.uv, environment, work)
                texts[committed / named] = pylock.text(wheels[name])
        wheel_rules.check(settings, wheels, {deb.name for deb in packages[target.file].debs})
    moved = [line for file, text in texts.items() for line in difference(file, text)]
    own = committed / space.target
    gone = {*own.glob("python-*.lock"), *own.glob(KEYRINGS)} - set(texts)
    moved += [f"{file.parent.name}/{file.name}: gone, nothing needs it" for file in sorted(gone)]
    # an unchanged lock keeps its moment: a new one would rebuild everything for nothing
    for file, text in texts.items():
        if difference(file, text):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".new").write_text(text)
            file.with_suffix(".new").replace(file)
    for file in gone:
        file.unlink()
    return Resolved(moved, packages[target.file], wheels)


@dataclass(frozen=True)
class Request:
    """What an apt lock is resolved from."""

    file: str
    """its name below locks/"""
    layers: Sequence[tuple[str, Sequence[str]]]
    """(name, packages) from the bottom up"""
    sources: Sequence[Source]
    architecture: str
    codename: str
    named: Mapping[str, Sequence[str]]
    """pillar key -> packages that it names; the archive must have each, also those that no layer installs"""
    repositories: Sequence[Repository] = ()
    """the vendors' repositories among the sources"""
    kernel: str | None = None
    """the pillar's kernel package; None: no kernel is wanted"""

    def resolve(self, mirrors: dict[str, str], epoch: int, kept: resolver.Kept | None = None) -> AptLock:
        """Resolve it with apt against today's archives. Raises VaultCubeError naming the lock."""
        try:
            lock = resolver.resolve(
                self.layers, self.sources, mirrors, self.architecture, epoch, kept=kept, named=self.named,
                pins=vendors.preferences(self.repositories) if self.repositories else "", kernel=self.kernel,
            )  # fmt: skip
            vendors.check_pins(self.repositories, lock.debs)
        except VaultCubeError as err:
            raise VaultCubeError(f"locks/{self.file}: {err}") from None
        return lock


def of_tools(space: Workspace) -> Request:
    """The tools tree's lock; one serves all targets."""
    tools = space.settings.image.tools
    sources, named = keyrings.sources(space, tools.sources), {"image:tools:packages": tools.packages}
    return Request("tools.lock", [("tools", tools.packages)], sources, "amd64", tools.codename, named)


def of_target(space: Workspace, vendor_keys: Path) -> Request:
    """The lock of a target's root and layers. vendor_keys: the folder with the vendors' keys."""
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
    """The Python environments of a target, Salt's own first."""
    return {"salt": space.settings.image.salt, **space.settings.frameworks.environments}


def difference(file: Path, text: str) -> list[str]:
    """Compare a new lock with the file in its place.

    Returns one line per package that changed, `pytorch: torch 2.12.0 → 2.13.0`, security updates marked; for a lock
    that is new one line in all; empty: nothing changed.
    """
    where, after = f"{file.parent.name}/{file.name}", _versions(file.name, text)
    if not file.exists():
        return [f"{where}: new, {len(after)} entries"]
    before = _versions(file.name, file.read_text(errors="replace"))
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        lines.append(f"{where}: {name} {_change(old, new)}")
    if not lines and not _readable(file):
        return [f"{where}: was damaged or of an older format, written again"]
    return lines


def _readable(file: Path) -> bool:
    """Whether a lock can be read as it is."""
    try:
        if file.name.startswith("python-"):
            pylock.read(file)
        elif file.name == KEYRINGS:
            locktext.hold(file, locktext.read(file))
        else:
            AptLock.read(file)
    except VaultCubeError:
        return False
    return True


def _change(old: Locked | None, new: Locked | None) -> str:
    """What happened to a package, in words."""
    if old is None or new is None:
        return f"– → {new.version}" if new else f"{old.version if old else ''} → –"  # noqa: RUF001
    if old.version != new.version:
        return f"{old.version} → {new.version}" + (" (security)" if "security" in new.suite else "")
    if old.sha256 != new.sha256:
        return f"{new.version}: another file of the same version"
    if old.layer != new.layer:
        return f"{new.version}: from layer {old.layer} to {new.layer}"
    return f"{new.version}: from suite {old.suite} to {new.suite}"


class Locked(NamedTuple):
    """One package of a lock, as far as a person cares."""

    version: str
    sha256: str
    layer: str = ""
    suite: str = ""


def _versions(name: str, text: str) -> dict[str, Locked]:
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        parts = line.split(" ")
        if len(parts) < (8 if name in ("apt.lock", "tools.lock") else 2):
            continue  # damaged: it is written anew
        if name.startswith("python-"):
            package, _, version = parts[0].partition("==")
            found[package] = Locked(version, parts[1])
        elif name == KEYRINGS:
            found[parts[0]] = Locked(parts[1][:12], parts[1])
        else:
            found[f"{parts[1]}:{parts[3]}"] = Locked(parts[2], parts[7], parts[0], parts[4])
    return found
