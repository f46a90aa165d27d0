"""The source package of each package in an image, from the status file that dpkg keeps in its layers.

Advisories of Debian and Ubuntu name source packages: a scanner that has only `libssl3` finds none of openssl's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

STATUS = "var/lib/dpkg/status"


@dataclass(frozen=True)
class SourcePackage:
    """The source that a package was built from."""

    name: str
    version: str

    @property
    def parts(self) -> tuple[str, str, str]:
        """Epoch, upstream version and Debian revision; empty if there is none (deb-version(7))."""
        epoch, colon, rest = self.version.rpartition(":")
        upstream, dash, revision = rest.rpartition("-")
        return (epoch if colon else "", upstream if dash else revision, revision if dash else "")


def of_trees(trees: Iterable[Path]) -> dict[str, SourcePackage]:
    """Read the sources of all packages from the topmost tree that has a status file. trees: bottom first."""
    file = next((tree / STATUS for tree in reversed(list(trees)) if (tree / STATUS).is_file()), None)
    return of_status(file.read_text(errors="replace")) if file else {}


def of_status(text: str) -> dict[str, SourcePackage]:
    """Parse dpkg's status file. Returns package → source; without a field Source, the package is its own source."""
    sources = {}
    for stanza in re.split(r"\n\n+", text):
        fields: Mapping[str, str] = {
            name: value.strip()
            for name, separator, value in (line.partition(":") for line in stanza.splitlines())
            if separator and name in {"Package", "Version", "Source"}
        }
        if "Package" not in fields or "Version" not in fields:
            continue
        match = re.fullmatch(r"(\S+)(?: \((\S+)\))?", fields.get("Source", fields["Package"]))
        if match:
            sources[fields["Package"]] = SourcePackage(match[1], match[2] or fields["Version"])
    return sources
