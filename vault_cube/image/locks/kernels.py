"""Exactly one kernel per image: which kernel versions a set of packages brings, and which package asks for each.

A disk boots one kernel. Meta packages such as linux-image-generic and linux-modules-nvidia-580-open-generic come from
two source packages, which an archive publishes hours or days apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from vault_cube.image.locks.aptlock import Deb


class Stanza(NamedTuple):
    """What an index says of one package."""

    name: str
    version: str
    depends: str
    sha256: str
    suite: str
    component: str | None
    """None in a flat repository"""


def versions(debs: Iterable[Deb]) -> dict[str, set[str]]:
    """Return kernel version -> names of its packages, newest version first.

    linux-image-6.8.0-142-generic and linux-modules-nvidia-580-open-6.8.0-142-generic are of version 6.8.0-142-generic:
    each has files below /lib/modules/6.8.0-142-generic.
    """
    packages: dict[str, set[str]] = {}
    for deb in debs:
        match = re.fullmatch(r"linux-(?:image|modules)(?:-[a-z0-9]+)*?-(\d+\.\d+\..+)", deb.name)
        if match:
            packages.setdefault(match[1], set()).add(deb.name)
    numbers = {version: [int(number) for number in re.findall(r"\d+", version)] for version in packages}
    return {version: packages[version] for version in sorted(packages, key=lambda version: numbers[version])[::-1]}


def images(packages: Mapping[str, set[str]]) -> set[str]:
    """Return the packages of `versions` that have a kernel to boot."""
    return {name for names in packages.values() for name in names if name.startswith("linux-image-")}


def askers(
    packages: Mapping[str, set[str]], debs: Sequence[Deb], stanzas: Iterable[Stanza], named: set[str]
) -> dict[str, set[str]]:
    """Return kernel version -> packages of `named` that depend on it, directly or through other packages.

    packages: the result of `versions`. stanzas: the index's entries of at least all `debs`.
    """
    entries = {stanza.sha256: stanza for stanza in stanzas}
    depends = {
        deb.name: set(re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", entries[deb.sha256].depends))
        for deb in debs
        if deb.sha256 in entries
    }
    found = {}
    for version, names in packages.items():
        reached = set(names)
        while more := {name for name, wants in depends.items() if name not in reached and wants & reached}:
            reached |= more
        found[version] = reached & named
    return found


def agreements(
    packages: Mapping[str, set[str]], debs: Sequence[Deb], stanzas: Sequence[Stanza], named: set[str]
) -> Iterator[tuple[str, str]]:
    """Yield (kernel version, apt preferences) that may give one kernel, newest first.

    The preferences take each of the named packages that asks for another kernel at a version that asks for this one;
    a kernel for which the indexes have no such versions is left out.
    """
    asking = askers(packages, debs, stanzas, named)
    for version in packages:
        wanted = re.compile(rf"-{re.escape(version)}(?![\w.+-])")
        others = set().union(*(asking[other] for other in packages if other != version)) - asking[version]
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
