"""`locks/<target>/contract.json`: the expected archive, component and version of each package that the pillar names.

The file was written from public pages while the target's archives could not be reached: name, archive, component,
version, source and date. A test compares the pillar with it; `make lock` reports differences from the archives. It is
not an input of any layer key.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from vault_cube.errors import VaultCubeError
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.locks.debian_version import dpkg_older
from vault_cube.image.workspace import LAYERS, Workspace
from vault_cube.settings import Settings
from vault_cube.settings.strict import HttpUrl, PackageName, Section

FILE = "contract.json"


class Package(Section):
    """One expected package."""

    name: PackageName
    archive: str = Field(description="name of the source that has it, as in the pillar")
    component: str | None = Field(description="component of the archive; null: a flat repository, which has none")
    version: str | None = Field(description="version that the source names; null: no source was found")
    source: HttpUrl | None = Field(description="the page or file that was read; null: none was found")
    date: datetime.date | None = Field(description="day on which a stored copy of the source was read")
    note: str = Field(default="", description="what the source is, if it is not the package's own page")
    relies_on: list[str] = Field(default=[], description="dependencies and contents that the build relies on")

    @model_validator(mode="after")
    def _sourced(self) -> Package:
        known = [self.version is not None, self.source is not None, self.date is not None]
        if any(known) and not all(known):
            raise ValueError("version, source and date belong together: give all three, or null for each")
        if not any(known) and not self.note:
            raise ValueError("a package without a source needs a note that gives the reason to trust its name")
        return self


class Contract(Section):
    """The contract of one target."""

    packages: list[Package] = Field(min_length=1, description="packages that the pillar names")
    elsewhere: list[Package] = Field(
        description="packages that the pillar must not name: the target's sources do not have their components"
    )

    @model_validator(mode="after")
    def _once(self) -> Contract:
        names = [package.name for package in (*self.packages, *self.elsewhere)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"listed twice: {', '.join(twice)}")
        return self


def read(file: Path) -> Contract:
    """Read a contract. Raises VaultCubeError with the file and the first invalid entry, in one line."""
    try:
        return Contract.model_validate_json(file.read_bytes())
    except OSError as err:
        raise VaultCubeError(f"{file}: {err.strerror}: restore the file") from err
    except ValidationError as err:
        problem = err.errors(include_url=False)[0]
        where = ":".join(str(part) for part in problem["loc"])
        reason = problem["msg"].removeprefix("Value error, ")
        raise VaultCubeError(": ".join(filter(None, (str(file), where, reason))) + ": correct the file") from err


def of(space: Workspace) -> Contract | None:
    """Read the contract of a workspace's target. Returns None if the target has none."""
    file = space.checkout / "locks" / space.target / FILE
    return read(file) if file.exists() else None


def named(settings: Settings) -> dict[str, list[str]]:
    """Return every apt package of a target's pillar, with the keys that name it."""
    keys: dict[str, list[str]] = defaultdict(list)
    lists = {"image:root_packages": settings.image.root_packages, "base:kernel:package": [settings.base.kernel.package]}
    lists |= {f"{layer}:packages": getattr(settings, layer).packages for layer in LAYERS}
    lists |= {"driver:held": settings.driver.held}
    for key, names in lists.items():
        for name in names:
            keys[name].append(key)
    return dict(keys)


def breaches(contract: Contract, settings: Settings) -> list[str]:
    """Compare a target's pillar with its contract. Returns one line per mismatch; empty if there is none."""
    components: dict[str, set[str]] = defaultdict(set)
    for source in settings.archive.sources:
        components[source.archive] |= set(source.components)
    for repository in (*settings.driver.repositories, *settings.runtime.repositories):
        components[repository.name] |= set(repository.components)
    known = {package.name: package for package in (*contract.packages, *contract.elsewhere)}
    lines = []
    for name, keys in named(settings).items():
        where = f"{name} ({', '.join(keys)})"
        package = known.get(name)
        if package is None:
            lines.append(f"{where}: not in {FILE}: look it up and add it, or remove it from the pillar")
        elif package.archive not in components:
            lines.append(f"{where}: is in archive {package.archive}, which the pillar does not name")
        elif package.component and package.component not in components[package.archive]:
            lines.append(
                f"{where}: is in component {package.component} of {package.archive}; "
                f"the pillar names {', '.join(sorted(components[package.archive]))}"
            )
    unused = [package.name for package in contract.packages if package.name not in named(settings)]
    lines += [f"{name}: in {FILE}, but no pillar key names it: remove the entry" for name in unused]
    return lines


def differences(contract: Contract, lock: AptLock) -> list[str]:
    """Compare a new lock with the contract. Returns one line per package that differs; empty if none does."""
    lines = []
    for package in contract.packages:
        debs = [deb for deb in lock.debs if deb.name == package.name.partition(":")[0]]
        if not debs:
            lines.append(f"{package.name}: not in the lock; expected from {_place(package.archive, package.component)}")
            continue
        deb = debs[0]
        component = lock.components.get(deb.sha256)
        if (deb.archive, component) != (package.archive, package.component):
            lines.append(
                f"{package.name}: from {_place(deb.archive, component)}; "
                f"expected from {_place(package.archive, package.component)}"
            )
        if package.version and dpkg_older(deb.version, package.version):
            lines.append(f"{package.name}: {deb.version} is older than {package.version}, seen at {package.source}")
    return lines


def _place(archive: str, component: str | None) -> str:
    return f"{archive} {component}" if component else archive
