"""Exactly one kernel per image: which kernel versions a set of packages installs, and which packages need each.

A disk boots one kernel. Meta packages such as linux-image-generic and linux-modules-nvidia-580-open-generic come from
two source packages, which an archive publishes hours or days apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from vault_cube.image.locks.aptlock import Deb


class Stanza(NamedTuple):
    """The entry of one package in an index."""

    name: str
    version: str
    depends: str
    sha256: str
    suite: str
    component: str | None
    """Component of the archive; None in a flat repository."""


def versions(debs: Iterable[Deb]) -> dict[str, set[str]]:
    """Return kernel version -> names of its packages, newest version first.

    linux-image-6.8.0-142-generic and linux-modules-nvidia-580-open-6.8.0-142-generic both belong to version
    6.8.0-142-generic: each has files below /lib/modules/6.8.0-142-generic.
    """
    packages: dict[str, set[str]] = {}
    for deb in debs:
        match = re.fullmatch(r"linux-(?:image|modules)(?:-[a-z0-9]+)*?-(\d+\.\d+\..+)", deb.name)
        if match:
            packages.setdefault(match[1], set()).add(deb.name)
    numbers = {version: [int(number) for number in re.findall(r"\d+", version)] for version in packages}
    return {version: packages[version] for version in sorted(packages, key=lambda version: numbers[version])[::-1]}


def images(packages: Mapping[str, set[str]]) -> set[str]:
    """Return the packages that contain a bootable kernel. packages: the result of `versions`."""
    return {name for names in packages.values() for name in names if name.startswith("linux-image-")}


def dependents(
    packages: Mapping[str, set[str]], debs: Sequence[Deb], stanzas: Iterable[Stanza], named: set[str]
) -> dict[str, set[str]]:
    """Return kernel version -> packages of `named` that depend on it, directly or through other packages.

    packages: the result of `versions`. stanzas: index entries of at least all `debs`.
    """
    entries = {stanza.sha256: stanza for stanza in stanzas}
    depends = {
        deb.name: set(re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", entries[deb.sha256].depends))
        for deb in debs
        if deb.sha256 in entries
    }
    named_dependents = {}
    for version, names in packages.items():
        reached = set(names)
        while more := {name for name, needed in depends.items() if name not in reached and needed & reached}:
            reached |= more
        named_dependents[version] = reached & named
    return named_dependents


def candidates(
    packages: Mapping[str, set[str]], debs: Sequence[Deb], stanzas: Sequence[Stanza], named: set[str]
) -> Iterator[tuple[str, str]]:
    """Yield (kernel version, apt preferences) that may lead to a single kernel, newest version first.

    The preferences pin each named package that depends on another kernel to a version that depends on this one. A
    kernel is left out if the indexes do not have such versions.
    """
    depending = dependents(packages, debs, stanzas, named)
    for version in packages:
        wanted = re.compile(rf"-{re.escape(version)}(?![\w.+-])")
        others = set().union(*(depending[other] for other in packages if other != version)) - depending[version]
        fitting = {
            stanza.name: stanza.version for stanza in stanzas if stanza.name in others and wanted.search(stanza.depends)
        }
        if fitting.keys() == others:
            yield (
                version,
                "".join(
                    f"Package: {name}\nPin: version {fitting[name]}\nPin-Priority: 1001\n\n" for name in sorted(others)
                ),
            )
