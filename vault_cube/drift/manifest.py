"""The manifest that an image carries: its files, packages and accounts, and which paths are expected to change.

A gzip file. The first line is a JSON object, `Header`. Each further line describes one file: the number of its layer,
its package or `-`, and the fields of `vault_cube.tree_manifest.Line`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypedDict
from urllib.parse import unquote

from vault_cube.drift.reading import content
from vault_cube.tree_manifest import Line

FORMAT = 1
HOME = "usr/lib/vault-cube"
"""Folder of the manifest and of this program on a box."""
PLACE = f"{HOME}/manifest.gz"
ENDING = ".files.gz"
"""Ending of the copy of a manifest beside its image."""
TABLES = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/subuid", "etc/subgid")
"""Tables of accounts, which are compared by line, because installations and the owner add lines to them."""


class ManifestError(Exception):
    """The manifest is missing or damaged; the message says which, and what to do."""


class Header(TypedDict):
    """The first line of a manifest."""

    format: int
    name: str
    version: str
    target: str
    epoch: int
    """Time of all files, seconds since 1970."""
    layers: list[str]
    """Names of the layers; the lines name them by number."""
    cmdline: str
    """Command line of the kernel."""
    packages: dict[str, str]
    """`name:architecture` → version."""
    tables: dict[str, str]
    """Content of the files in TABLES."""
    expected: dict[str, str]
    """Pattern of paths → reason why they may differ."""
    listen: list[str]
    """Ports that may be open to other machines, such as `tcp 22`."""
    states: dict[str, str]
    """Path → state that writes it."""
    signers: list[str]
    """Public ssh keys whose updates of the checkout are accepted."""


class Entry(NamedTuple):
    """A file of the image."""

    layer: int
    package: str
    """Name of the package that the file belongs to, or an empty string."""
    line: Line


@dataclass(frozen=True)
class Manifest:
    """An image's manifest, with paths as they are on disk, relative to the root."""

    header: Header
    entries: Mapping[str, Entry]
    sha256: str
    """Digest of the manifest file."""

    def content(self, path: str) -> str:
        """Return the content field of a file."""
        return self.entries[path].line.content

    @cached_property
    def files_of_packages(self) -> dict[str, list[str]]:
        """Name of each package → the paths of its files."""
        files: dict[str, list[str]] = {}
        for path, entry in self.entries.items():
            if entry.package:
                files.setdefault(entry.package, []).append(path)
        return files

    @property
    def image(self) -> str:
        """Name, version and target of the image."""
        return f"{self.header['name']} {self.header['version']} {self.header['target']}"


def read(file: Path, tops: tuple[str, ...] = ("",)) -> Manifest:
    """Read a manifest. tops: beginnings of the paths that are read. Raises ManifestError if it cannot be read."""
    try:
        data = content(file)
    except OSError as err:
        raise ManifestError(f"{file}: {err.strerror}: this box was not made from an image that has a manifest") from err
    try:
        first, *rest = gzip.decompress(data).decode().split("\n")
        header: Header = json.loads(first)
        if header["format"] != FORMAT:
            raise ManifestError(f"{file}: format {header['format']}; this program reads format {FORMAT}")
        entries = {}
        for text in rest:
            layer, package, line = text.split(" ", 2)
            if not line.startswith(tops):
                continue
            entry = Entry(int(layer), "" if package == "-" else package, Line.parse(line))
            entries[unquote(entry.line.path)] = entry
    except (OSError, ValueError, KeyError, TypeError, EOFError) as err:
        raise ManifestError(f"{file}: damaged ({err}): compare the disk from outside with `image.check`") from err
    return Manifest(header, entries, hashlib.sha256(data).hexdigest())


def text(header: Header, entries: Iterable[Entry]) -> str:
    """Return the text of a manifest, before it is compressed."""
    lines = (f"{entry.layer} {entry.package or '-'} {entry.line.format()}" for entry in entries)
    return "\n".join([json.dumps(header, sort_keys=True), *lines])


class Patterns:
    """Patterns of paths, each with a reason. `*` matches within a name, `**` everything below a folder."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self._reasons = list(reasons.values())
        self._any = _alternatives([_expression(pattern) for pattern in reasons])
        below = [pattern.removesuffix("/**") for pattern in reasons if pattern.endswith("/**")]
        self._below = _alternatives([_expression(pattern) for pattern in below])

    def reason(self, path: str) -> str:
        """Return the reason of the first pattern that matches a path relative to the root, or an empty string."""
        match = self._any.fullmatch(path)
        return self._reasons[(match.lastindex or 1) - 1] if match else ""

    def reason_to_add(self, folder: str) -> str:
        """Return the reason why a folder may be added: its own, or that of everything below it."""
        return self.reason(folder) or (self.reason(f"{folder}/-") if self.covers(folder) else "")

    def covers(self, folder: str) -> bool:
        """Return whether everything below a folder is expected to differ."""
        return self._below.fullmatch(folder) is not None


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*\*|\*)", pattern.lstrip("/"))
    return "".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)


def _alternatives(expressions: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"({expression})" for expression in expressions) or r"(?!)", re.DOTALL)
