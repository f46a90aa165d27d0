"""Compare a target's packages with a file of vulnerability data, from Debian's security tracker or from OSV.

The result is a report, not a verdict: it fetches nothing and stops no build. Sources of the formats:
security-tracker.debian.org (`/tracker/data/json`), and the OSV schema 1.x (`PyPI/all.zip`, `Debian/all.zip` as osv.dev
publishes them).
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.inputs import Locks
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.locks.debian_version import dpkg_older
from vault_cube.image.locks.pylock import Wheel
from vault_cube.image.store import Store
from vault_cube.image.workspace import Workspace

Older = Callable[[str, str], bool]


class Range(TypedDict, total=False):
    """A range of affected versions in an OSV entry."""

    type: str
    events: list[dict[str, str]]


class Affected(TypedDict, total=False):
    """An affected package in an OSV entry."""

    package: dict[str, str]
    versions: list[str]
    ranges: list[Range]


class Osv(TypedDict, total=False):
    """An OSV entry, as far as it is read."""

    id: str
    withdrawn: str
    affected: list[Affected]


class Details(TypedDict, total=False):
    """The details of an advisory of the security tracker: its status by release."""

    releases: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Thing:
    """The subject of an advisory: a source package, or a Python distribution."""

    name: str
    version: str
    holds: tuple[str, ...]
    """Packages built from the source, or environments that contain the distribution."""


def report(space: Workspace, locks: Locks, data: Path | None) -> list[str]:
    """List the advisories that apply to a target's locked packages and wheels.

    data: the security tracker's JSON, a zip of OSV entries, or one OSV entry as JSON; None: no data.
    Returns one line per advisory and a line with their number; without data, a line that asks for it.
    Raises VaultCubeError if the data cannot be read, or if a locked package is not in the store.
    """
    if data is None:
        return ["no data: pass data=FILE, the JSON of Debian's security tracker or a zip of OSV"]
    target = space.settings.target
    debs = sources(Store(space.store), locks.packages.debs)
    wheels = distributions(locks.wheels)
    lines: list[str] = []
    kind, entries = _read(data)
    if kind == "tracker":
        lines = tracker(entries, debs, target.codename)
        scope = f"{len(debs)} source packages"
    else:
        ecosystem = f"{target.os}:{target.release}"
        lines = osv(entries, {ecosystem: debs, "PyPI": wheels})
        scope = f"{len(debs)} source packages and {len(wheels)} wheels"
    return [*sorted(set(lines)), f"{len(set(lines))} advisories for {scope} in {data.name}"]


def _read(data: Path) -> tuple[str, Any]:
    """Read a data file. Returns its kind, `osv` or `tracker`, and its entries. Raises VaultCubeError."""
    try:
        if zipfile.is_zipfile(data):
            return "osv", _zipped(data)
        content = json.loads(data.read_bytes())
    except OSError as err:
        raise VaultCubeError(f"{data}: cannot be read: {err.strerror}") from err
    except ValueError:
        content = None
    if isinstance(content, dict) and "affected" in content:
        return "osv", [content]
    if isinstance(content, dict) and all(isinstance(entry, dict) for entry in content.values()):
        return "tracker", content
    raise VaultCubeError(f"{data}: unknown format: pass the JSON of Debian's security tracker, or a zip or JSON of OSV")


def _zipped(data: Path) -> Iterator[Osv]:
    with zipfile.ZipFile(data) as opened:
        for name in opened.namelist():
            try:
                yield json.loads(opened.read(name))
            except ValueError as err:
                raise VaultCubeError(f"{data}: {name}: not JSON: fetch the data again") from err


def sources(store: Store, debs: Iterable[Deb]) -> dict[str, Thing]:
    """Read the source packages of locked packages from their control files. Returns them by name.

    Raises VaultCubeError if a package is not in the store.
    """

    def source_of(deb: Deb) -> tuple[str, str, str]:
        if not store.has(deb.sha256):
            raise VaultCubeError(f"{deb.filename}: not in the store: run `salt-call image.fetch`")
        field = process.run(["dpkg-deb", "--field", store.path(deb.sha256), "Source"], purpose=deb.filename).stdout
        match = re.fullmatch(r"(\S+)(?: \((\S+)\))?", field.strip())
        name, version = match.groups() if match else (deb.name, None)
        # +b7 marks a rebuild of the same source
        return name, version or re.sub(r"\+b\d+$", "", deb.version), deb.name

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        packages = sorted(set(pool.map(source_of, debs)))
    things: dict[str, Thing] = {}
    for name, version, package in packages:
        things[name] = Thing(name, version, (*(things[name].holds if name in things else ()), package))
    return things


def distributions(environments: Mapping[str, Sequence[Wheel]]) -> dict[str, Thing]:
    """Read the Python distributions of all environments. Returns them by normalized name and version."""
    holders: dict[tuple[str, str], list[str]] = {}
    for environment, wheels in environments.items():
        for wheel in wheels:
            holders.setdefault((canonicalize_name(wheel.name), wheel.version), []).append(environment)
    return {f"{name} {version}": Thing(name, version, tuple(names)) for (name, version), names in holders.items()}


def tracker(data: Mapping[str, Mapping[str, Details]], things: Mapping[str, Thing], codename: str) -> list[str]:
    """List the security tracker's entries that apply to source packages: open ones, and those fixed in a later version.

    data: the tracker's JSON: source package → advisory → details. codename: release whose status counts.
    """
    lines = []
    for name, thing in things.items():
        for advisory, details in data.get(name, {}).items():
            release = details.get("releases", {}).get(codename, {})
            fixed = release.get("fixed_version")
            if release.get("status") == "open":
                lines.append(_line(thing, advisory, f"open, urgency {release.get('urgency', 'unknown')}"))
            elif release.get("status") == "resolved" and fixed and dpkg_older(thing.version, fixed):
                lines.append(_line(thing, advisory, f"fixed in {fixed}"))
    return lines


def osv(entries: Iterable[Osv], ecosystems: Mapping[str, Mapping[str, Thing]]) -> list[str]:
    """List the OSV entries that apply to packages. ecosystems: `Debian:12` or `PyPI` → packages by name."""
    named: dict[tuple[str, str], list[Thing]] = {}
    for ecosystem, things in ecosystems.items():
        for thing in things.values():
            named.setdefault((ecosystem, thing.name), []).append(thing)
    lines = []
    for entry in entries:
        if "withdrawn" in entry:
            continue
        for affected in entry.get("affected", []):
            package = affected.get("package", {})
            ecosystem, name = package.get("ecosystem", ""), package.get("name", "")
            for thing in named.get((ecosystem, canonicalize_name(name) if ecosystem == "PyPI" else name), []):
                older = pypi_older if ecosystem == "PyPI" else dpkg_older
                fixed = _hit(affected, thing.version, older)
                if fixed is not None:
                    lines.append(_line(thing, entry["id"], f"fixed in {fixed}" if fixed else "open"))
    return lines


def _hit(affected: Affected, version: str, older: Older) -> str | None:
    """Return the version that fixes an advisory, "" if none is named; None if this version is not affected."""
    listed = version in affected.get("versions", ())
    ranges = (entry for entry in affected.get("ranges", ()) if entry.get("type") == "ECOSYSTEM")
    for events in (entry.get("events", []) for entry in ranges):
        inside = False
        for event in events:
            if "introduced" in event:
                inside = event["introduced"] == "0" or not older(version, event["introduced"])
            elif "fixed" in event:
                if inside and older(version, event["fixed"]):
                    return str(event["fixed"])
                inside = False
            elif "last_affected" in event:
                if inside and not older(event["last_affected"], version):
                    return ""
                inside = False
        listed = listed or inside
    return "" if listed else None


def _line(thing: Thing, advisory: str, state: str) -> str:
    return f"{thing.name} {thing.version} ({', '.join(thing.holds)}): {advisory}: {state}"


def pypi_older(version: str, other: str) -> bool:
    """Return whether a Python version is older than another, without the local part after `+`."""
    try:
        return Version(Version(version).public) < Version(Version(other).public)
    except InvalidVersion:
        return False
