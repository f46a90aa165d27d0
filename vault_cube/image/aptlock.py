"""`apt.lock`: every .deb of a target, resolved by apt against signed indexes, a line each, in the layer that brings it.

The lock names no host: a file is its sha256, and its path within an archive that the pillar (or the machine) locates.
"""

from __future__ import annotations

import datetime
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from vault_cube.errors import VaultCubeError
from vault_cube.image import locktext
from vault_cube.settings.image import Source

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
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


@dataclass(frozen=True)
class AptLock:
    """The .debs of a target and the moment that the image pretends to be made at."""

    epoch: int
    debs: tuple[Deb, ...]
    components: Mapping[str, str] = field(default_factory=dict, compare=False)
    """sha256 of a .deb -> the component whose index lists it; empty when the lock was read from a file"""

    def upto(self, layer: str, order: Sequence[str]) -> list[Deb]:
        """What is installed once `layer` is."""
        known = set(order[: order.index(layer) + 1])
        return [deb for deb in self.debs if deb.layer in known]

    def of(self, layer: str) -> list[Deb]:
        return [deb for deb in self.debs if deb.layer == layer]

    @property
    def date(self) -> str:
        """The lock's moment as the snapshot services spell it."""
        return datetime.datetime.fromtimestamp(self.epoch, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")

    def text(self) -> str:
        columns = [column.name for column in fields(Deb)]
        lines = [HEADER, f"# epoch {self.epoch}", "# " + " ".join(columns)]
        body = [*lines, *(" ".join(map(str, astuple(deb))) for deb in sorted(self.debs))]
        return locktext.closed("\n".join(body) + "\n")

    @classmethod
    def read(cls, file: Path) -> AptLock:
        """Read a lock. Raises VaultCubeError naming file and line."""
        text = locktext.read(file)
        lines = text.splitlines()
        if lines[:1] != [HEADER] or not re.fullmatch(r"# epoch \d+", lines[1] if len(lines) > 1 else ""):
            raise VaultCubeError(f"{file}: line 1: not a lock of this version: run `make lock`, or restore the file")
        debs = []
        for number, line in enumerate(lines[3:], 4):
            if line.startswith(locktext.MARK):
                continue
            parts = line.split(" ")
            if len(parts) != len(fields(Deb)) or not parts[6].isdigit() or not re.fullmatch(r"[0-9a-f]{64}", parts[7]):
                raise VaultCubeError(f"{file}: line {number}: not a package: restore the file, or run `make lock`")
            debs.append(Deb(*parts[:6], int(parts[6]), *parts[7:]))  # type: ignore[arg-type, call-arg]
        locktext.hold(file, text)
        return cls(int(lines[1].split()[2]), tuple(debs))


@lru_cache(maxsize=1)
def machine_mirrors() -> dict[str, str]:
    """The archives that this machine's apt is configured with, by the last part of their path (`debian` …)."""
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {uri.rstrip("/").rsplit("/", 1)[1]: uri.rstrip("/") for uri in reversed(listed.split())}


def mirrors(source: Source, configured: dict[str, str], date: str | None = None) -> list[str]:
    """Where an archive is looked for, best first: the pillar's, the machine's, the source's own, the snapshot."""
    found = [configured.get(source.archive), machine_mirrors().get(source.archive), source.mirror]
    if date and source.snapshot:
        found.append(source.snapshot.format(date=date))
    return list(dict.fromkeys(place for place in found if place))


@dataclass(frozen=True)
class Kept:
    """What a lock holds on to while the rest of it is resolved anew."""

    folder: Path
    """a flat repository of the packages"""
    debs: Sequence[Deb]
    pinned: bool = True
    """False: newer ones of the archive may take their place"""

    def preferences(self) -> str:
        """apt's preferences that hold them; the first that fits a package counts, so these stand before others."""
        pins = [f"Package: {deb.name}\nPin: version {deb.version}\nPin-Priority: 1001\n\n" for deb in self.debs]
        return "".join(pins) if self.pinned else ""


class Resolver:
    """apt over an empty root: what would be installed, from which signed index."""

    def __init__(
        self,
        root: Path,
        sources: Iterable[Source],
        configured: dict[str, str],
        architecture: str,
        *,
        pins: str = "",
        kept: Kept | None = None,
    ) -> None:
        self._options = {
            "Dir::State": f"{root}/state",
            "Dir::State::status": f"{root}/status",
            "Dir::Cache": f"{root}/cache",
            "Dir::Etc::SourceList": f"{root}/sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": f"{root}/preferences",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::GzipIndexes": "false",
            "Acquire::Languages": "none",
            "Acquire::ForceHash": "SHA256",
            "Acquire::Retries": "3",
        }
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (root / folder).mkdir(parents=True)
        (root / "status").touch()
        (root / "preferences").write_text((kept.preferences() if kept else "") + pins)
        self._kept = {deb.sha256: deb for deb in kept.debs} if kept else {}
        self._lists = root / "state/lists"
        self._archive_of: dict[str, str] = {}
        lines = []
        for source in sources:
            # apt spells a local address without the slashes of a host
            place = re.sub("^file://", "file:", mirrors(source, configured)[0])
            self._archive_of[place] = source.archive
            if not Path(source.keyring).exists():
                raise VaultCubeError(f"{source.keyring}: no such keyring: install the package that brings it")
            lines += [
                f"deb [signed-by={source.keyring}] {place} {suite} {' '.join(source.components)}"
                for suite in source.suites
            ]
        if kept:
            # its files are the lock's, verified by their sums
            lines.append(f"deb [trusted=yes] file:{kept.folder} ./")
        (root / "sources.list").write_text("\n".join(lines) + "\n")
        self._apt("update", "--error-on=any")
        self.components: dict[str, str] = {}
        """sha256 of each .deb -> component; a package's pool path names its source's component, which may be another"""
        self._suites = self._read_suites()

    def _apt(self, *arguments: str) -> str:
        options = [f"-o{key}={value}" for key, value in self._options.items()]
        ran = subprocess.run(["apt-get", "-qq", *options, *arguments], capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            return ran.stdout
        errors = [line for line in ran.stderr.splitlines() if line.startswith("E:")] or ran.stderr.splitlines()
        # which packages do not fit together it says only when it is less quiet
        told = subprocess.run(["apt-get", "-q", *options, *arguments], capture_output=True, text=True, check=False)
        unmet = [" ".join(line.split()) for line in told.stdout.splitlines() if re.match(r" \S+ : ", line)]
        raise VaultCubeError(f"apt-get {arguments[0]}: " + "; ".join((unmet or errors)[:3]))

    def _read_suites(self) -> dict[str, tuple[str, str]]:
        """sha256 of each .deb → (suite, version); apt names list files after their address."""
        found: dict[str, tuple[str, str]] = {}
        for file in sorted(self._lists.glob("*_Packages")):
            match = re.search(r"_dists_([^_]+)_(?:([^_]+)_binary-)?", file.name)
            suite, component = (match[1], match[2]) if match else ("-", None)
            version = ""
            for line in file.open(encoding="utf-8"):
                if line.startswith("Version: "):
                    version = line[9:].strip()
                elif line.startswith("SHA256: "):
                    found.setdefault(line[8:].strip(), (suite, version))
                    if component:
                        self.components.setdefault(line[8:].strip(), component)
        return found

    def resolve(self, layer: str, packages: Sequence[str]) -> list[Deb]:
        """Everything that installing `packages` on nothing brings, essential and required packages included."""
        uris = self._apt("--print-uris", "install", "?essential", "?priority(required)", *packages)
        debs = []
        for line in uris.splitlines():
            match = re.fullmatch(r"'(\S+)' (\S+)_(\S+)_(\S+)\.deb (\d+) SHA256:([0-9a-f]{64})", line)
            if not match:
                raise VaultCubeError(f"apt-get --print-uris: cannot read «{line}»")
            uri, name, _, architecture, size, sha256 = match.groups()
            if sha256 in self._kept:
                debs.append(replace(self._kept[sha256], layer=layer))
                continue
            place = max((known for known in self._archive_of if uri.startswith(known + "/")), key=len)
            suite, version = self._suites[sha256]
            path = unquote(uri[len(place) + 1 :])
            debs.append(
                Deb(layer, name, version, architecture, suite, self._archive_of[place], int(size), sha256, path)
            )
        return debs


def resolve(
    layers: Sequence[tuple[str, Sequence[str]]],
    sources: Sequence[Source],
    configured: dict[str, str],
    architecture: str,
    epoch: int,
    *,
    pins: str = "",
    kept: Kept | None = None,
) -> AptLock:
    """Resolve layer upon layer; a package belongs to the first layer that needs it.

    layers: (name, packages) from the bottom up. epoch: seconds since 1970 for SOURCE_DATE_EPOCH. pins: apt's
    preferences.
    """
    with tempfile.TemporaryDirectory(prefix="vault-cube-apt-") as root:
        resolver = Resolver(Path(root), sources, configured, architecture, pins=pins, kept=kept)
        debs: dict[str, Deb] = {}
        wanted: list[str] = []
        for layer, packages in layers:
            wanted += packages
            for deb in resolver.resolve(layer, wanted):
                debs.setdefault(deb.sha256, deb)
    names: dict[tuple[str, str], Deb] = {}
    for deb in debs.values():
        other = names.setdefault((deb.name, deb.architecture), deb)
        if other is not deb:
            raise VaultCubeError(
                f"{deb.name}: layer {other.layer} wants {other.version}, layer {deb.layer} {deb.version}: "
                f"name the package in pillar key {other.layer}:packages"
            )
    components = {sha256: resolver.components[sha256] for sha256 in debs.keys() & resolver.components.keys()}
    return AptLock(epoch, tuple(sorted(debs.values())), components)
