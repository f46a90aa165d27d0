"""`apt.lock`: all .debs of a target, one line per package, with the layer that installs it. Made by `resolver.py`.

The lock contains no host names: a file is identified by its SHA-256 and its path in an archive. The pillar and this
machine's apt configuration give the URLs of the archives.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image.locks import locktext

HEADER = "# vault-cube apt.lock 1"


@dataclass(frozen=True, order=True)
class Deb:
    """One line of the lock."""

    layer: str
    name: str
    version: str
    architecture: str
    suite: str
    archive: str
    size: int
    sha256: str
    path: str

    @property
    def filename(self) -> str:
        """The usual name of the .deb, such as `bash_5.2_amd64.deb`."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


@dataclass(frozen=True)
class AptLock:
    """The .debs of a target, and the timestamp of the image (SOURCE_DATE_EPOCH, in seconds since 1970)."""

    epoch: int
    debs: tuple[Deb, ...]
    components: Mapping[str, str] = field(default_factory=dict, compare=False)
    """SHA-256 of a .deb -> component whose index lists it; empty if the lock was read from a file."""

    def upto(self, layer: str, order: Sequence[str]) -> list[Deb]:
        """Return the packages of a layer and of all layers below it. order: all layers, from the bottom up."""
        layers = set(order[: order.index(layer) + 1])
        return [deb for deb in self.debs if deb.layer in layers]

    def of(self, layer: str) -> list[Deb]:
        """Return the packages of one layer."""
        return [deb for deb in self.debs if deb.layer == layer]

    @property
    def date(self) -> str:
        """The lock's timestamp in the format of snapshot services, such as 20261124T000000Z."""
        return datetime.datetime.fromtimestamp(self.epoch, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")

    def text(self) -> str:
        """Return the text of the lock."""
        columns = [column.name for column in fields(Deb)]
        lines = [HEADER, f"# epoch {self.epoch}", "# " + " ".join(columns)]
        body = [*lines, *(" ".join(map(str, astuple(deb))) for deb in sorted(self.debs))]
        return locktext.closed("\n".join(body) + "\n")

    @classmethod
    def read(cls, file: Path) -> AptLock:
        """Read a lock. Raises VaultCubeError with file and line."""
        text = locktext.read(file)
        lines = text.splitlines()
        if lines[:1] != [HEADER] or not re.fullmatch(r"# epoch \d+", lines[1] if len(lines) > 1 else ""):
            raise VaultCubeError(f"{file}: line 1: not a lock of this format: run `make lock`, or restore the file")
        debs = []
        for number, line in enumerate(lines[3:], 4):
            if line.startswith(locktext.MARK):
                continue
            parts = line.split(" ")
            if len(parts) != len(fields(Deb)) or not parts[6].isdigit() or not re.fullmatch(r"[0-9a-f]{64}", parts[7]):
                raise VaultCubeError(f"{file}: line {number}: not a package: restore the file, or run `make lock`")
            debs.append(Deb(*parts[:6], int(parts[6]), *parts[7:]))  # type: ignore[arg-type, call-arg]
        locktext.verify(file, text)
        return cls(int(lines[1].split()[2]), tuple(debs))
