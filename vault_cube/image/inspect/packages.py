"""List the packages and Python distributions of a tree with their files, by reading the tree."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DPKG = "var/lib/dpkg"


@dataclass(frozen=True)
class Installed:
    """Packages and Python distributions by key: `package bash`, or `python opt/vault-cube/envs/pytorch: torch`."""

    versions: dict[str, str]
    """Version of each key."""
    files: dict[str, frozenset[str]]
    """Paths of each key's files, relative to the tree."""


def installed(tree: Path) -> Installed:
    """Read dpkg's database and every dist-info folder of a tree, or of a layer's overlay folder."""
    versions: dict[str, str] = {}
    files: dict[str, frozenset[str]] = {}
    for name, architecture, version in _dpkg(tree):
        key = f"package {name}"
        versions[key] = version
        lists = (tree / DPKG / "info" / f"{stem}.list" for stem in (name, f"{name}:{architecture}"))
        files[key] = frozenset(
            line.lstrip("/") for file in lists if file.is_file() for line in file.read_text().splitlines()
        )
    for info in tree.glob("opt/vault-cube/**/site-packages/*.dist-info"):
        if not info.is_dir():
            continue
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        # …/ENVIRONMENT/lib/python3.x/site-packages
        environment = info.parents[3].relative_to(tree)
        key = f"python {environment}: {name.lower().replace('_', '-')}"
        versions[key], files[key] = version, _record(tree, info)
    return Installed(versions, files)


def _dpkg(tree: Path) -> list[tuple[str, str, str]]:
    status = tree / DPKG / "status"
    if not status.is_file():
        return []
    packages = []
    for stanza in status.read_text(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            packages.append((fields["Package"], fields.get("Architecture", ""), fields.get("Version", "")))
    return packages


def _record(tree: Path, info: Path) -> frozenset[str]:
    """Return a distribution's dist-info folder and the files that its RECORD lists."""
    record = info / "RECORD"
    if not record.is_file():
        return frozenset()
    site = PurePosixPath(info.parent.relative_to(tree))
    paths = {str(info.relative_to(tree))}
    with record.open(newline="") as lines:
        for row in csv.reader(lines):
            if row:
                paths.add(_normal(site / row[0]))
    return frozenset(paths)


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
