"""Resolve packages with apt as if nothing were installed: which .debs a target needs, and from which archive."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.locks import kernels, mirrors
from vault_cube.image.locks.aptlock import AptLock, Deb
from vault_cube.image.locks.kernels import Stanza
from vault_cube.image.progress import note
from vault_cube.settings.image import Source

# output of apt-get update -> what is wrong with a mirror, and the remedy; the first matching pattern counts
FAILURES = (
    (
        r"doesn't have the component '(?P<it>[^']+)'",
        "has no component {it}",
        "correct the components of this source in the pillar",
    ),
    (
        r"NO_PUBKEY|EXPKEYSIG|BADSIG|REVKEYSIG|[Mm]issing key|verification failed|signatures were invalid|Clearsigned",
        "is not signed by a key of {keyring}",
        "do not use this mirror, or name the keyring of its archive in the pillar",
    ),
    (r"is not valid yet|invalid for another", "has an index from the future", "set this machine's clock"),
    (r"is expired|invalid since", "has an expired index", "use a mirror that is kept up to date, or set the clock"),
    (
        r"Failed to fetch \S+\s+(?P<it>.+?)(?: \[IP: .*)?$",
        "cannot be read ({it})",
        "check this machine's network and proxy",
    ),
    (
        r"'\S+ (?P<it>\S+) Release' does not have a Release file",
        "has no suite {it}",
        "correct the suites of this source in the pillar",
    ),
    (r"is not signed", "is not signed", "use a mirror that is signed"),
)


@dataclass(frozen=True)
class Kept:
    """Locked packages that stay as they are while the rest of the lock is re-resolved."""

    folder: Path
    """A flat repository of the packages."""
    debs: Sequence[Deb]
    pinned: bool = True
    """If False, newer versions from the archive may replace them."""

    def preferences(self) -> str:
        """Return apt preferences that pin these packages; apt uses the first match, so put them before all others."""
        pins = [f"Package: {deb.name}\nPin: version {deb.version}\nPin-Priority: 1001\n\n" for deb in self.debs]
        return "".join(pins) if self.pinned else ""


class Resolver:
    """apt with its state in a separate folder, and with the verified indexes of some sources."""

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
        self._options = _options(root, architecture)
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (root / folder).mkdir(parents=True)
        (root / "status").touch()
        self._root = root
        self._pins = (kept.preferences() if kept else "") + pins
        self.pin("")
        self._kept = {deb.sha256: deb for deb in kept.debs} if kept else {}
        self._lists = root / "state/lists"
        self._archive_of: dict[str, str] = {}
        lines = [line for source in sources for line in self._fetch(source, configured, architecture)]
        if kept:
            # the repository is unsigned, but its files were verified against the lock
            lines.append(f"deb [trusted=yes] file:{quote(str(kept.folder))} ./")
            if failure := self._update(lines[-1:]):
                raise VaultCubeError(f"apt-get update: {failure}")
        (root / "sources.list").write_text("\n".join(lines) + "\n")
        self.listed: dict[str, Stanza] = {}
        """SHA-256 -> the entry of that package in the indexes."""
        for stanza in self._stanzas():
            self.listed.setdefault(stanza.sha256, stanza)

    def pin(self, preferences: str) -> None:
        """Put apt preferences before those passed to the constructor."""
        (self._root / "preferences").write_text(preferences + self._pins)

    def _fetch(self, source: Source, configured: dict[str, str], architecture: str) -> list[str]:
        """Fetch a source's indexes. Returns its lines of sources.list. Raises VaultCubeError."""
        verb = "correct" if source.archive in configured else "name a mirror in"
        remedy = f"{verb} pillar key image:mirrors:{source.archive}"
        place = self._first_usable(source, mirrors.live(source, configured, architecture), remedy)
        self._archive_of[place] = source.archive
        return self._lines(source, place)

    def _first_usable(self, source: Source, places: Sequence[str], remedy: str) -> str:
        """Fetch a source's indexes from the first mirror that has all of them, correctly signed. Returns its URL.

        remedy: a further remedy for the error message. Raises VaultCubeError with the problem of each mirror.
        """
        reasons: list[str] = []
        remedies: list[str] = []
        # apt writes local URLs as file:/path
        for place in (re.sub("^file://", "file:", place) for place in places):
            output = self._update(self._lines(source, place))
            if not output:
                for reason in reasons:
                    note(f"{source.archive}: {reason}: using {place} instead")
                return place
            reason, place_remedy = _diagnose(output, source)
            reasons.append(f"{place} {reason}")
            remedies.append(place_remedy)
        remedies = list(dict.fromkeys([*remedies, remedy]))
        raise VaultCubeError(f"archive {source.archive}: {'; '.join(reasons)}: {', or '.join(remedies)}")

    def _lines(self, source: Source, place: str) -> list[str]:
        """Write a source as lines of sources.list."""
        # apt takes a blank for the end of an option, and the path of the checkout, with its keyrings, may have one
        keyring = self._root / f"{source.archive}-{Path(source.keyring).name}"
        if Path(source.keyring).is_file():
            shutil.copyfile(source.keyring, keyring)
        # the Release file of a snapshot has expired
        dated = source.snapshot is not None and place.startswith(source.snapshot.partition("{date}")[0])
        options = f"signed-by={keyring}" + (" check-valid-until=no" if dated else "")
        return [f"deb [{options}] {place} {suite} {' '.join(source.components)}".rstrip() for suite in source.suites]

    def _update(self, lines: Sequence[str]) -> str:
        """Run apt-get update for some lines of sources.list. Returns apt's errors and warnings; empty on success."""
        (self._root / "sources.list").write_text("\n".join(lines) + "\n")
        ran = self._run("-qq", "update", "--error-on=any")
        # apt only warns about a missing component
        return ran.stderr.strip() if ran.returncode or "doesn't have the component" in ran.stderr else ""

    def _run(self, *arguments: str) -> process.Result:
        options = [f"-o{key}={value}" for key, value in self._options.items()]
        return process.run(["apt-get", *options, *arguments], env={**os.environ, "LC_ALL": "C.UTF-8"}, ok=None)

    def _apt(self, *arguments: str) -> str:
        ran = self._run("-qq", *arguments)
        if ran.returncode == 0:
            return ran.stdout
        # with -qq apt does not list the packages with unmet dependencies
        output = self._run("-q", *arguments).stdout
        unmet = [" ".join(line.split()) for line in output.splitlines() if re.match(r" \S+ : ", line)]
        raise VaultCubeError(f"apt-get {arguments[0]}: " + "; ".join((unmet or _errors(ran.stderr))[:3]))

    def _stanzas(self) -> Iterator[Stanza]:
        """Yield all entries of the indexes, sorted by the indexes' file names, which begin with their URLs."""
        keys = {"Package": "name", "Version": "version", "SHA256": "sha256", "Depends": "depends"}
        for file in sorted(self._lists.glob("*_Packages")):
            match = re.search(r"_dists_([^_]+)_(?:([^_]+)_binary-)?", file.name)
            where = {"suite": match[1], "component": match[2]} if match else {"suite": "-", "component": None}
            entry: dict[str, str] = {}
            with file.open(encoding="utf-8") as lines:
                for line in lines:
                    key, separator, value = line.partition(": ")
                    if separator and key in keys:
                        entry[keys[key]] = value.strip()
                    elif line == "\n" and "sha256" in entry:
                        yield Stanza(**{"depends": "", **entry, **where})  # type: ignore[arg-type]
                        entry = {}
            if "sha256" in entry:
                yield Stanza(**{"depends": "", **entry, **where})  # type: ignore[arg-type]

    def components(self, debs: Iterable[Deb]) -> dict[str, str]:
        """Return SHA-256 -> component for all packages whose index has a component."""
        listed = {deb.sha256: self.listed[deb.sha256].component for deb in debs if deb.sha256 in self.listed}
        return {sha256: component for sha256, component in listed.items() if component}

    def unknown(self, names: Iterable[str]) -> set[str]:
        """Return the names that are not installable packages in any index."""
        # apt reports all unknown packages before it checks dependencies
        errors = _errors(self._run("-qq", "--simulate", "install", *sorted(set(names))).stderr)
        matches = (
            re.search(r"Unable to locate package (\S+)|Package '(\S+)' has no installation candidate", error)
            for error in errors
        )
        return {match[1] or match[2] for match in matches if match}

    def resolve(self, layer: str, packages: Sequence[str]) -> list[Deb]:
        """Resolve packages with all their dependencies and all essential and required packages.

        layer: recorded in the returned entries. Raises VaultCubeError if they cannot be installed together.
        """
        uris = self._apt("--print-uris", "install", "?essential", "?priority(required)", *packages)
        debs = []
        for line in uris.splitlines():
            match = re.fullmatch(r"'(\S+)' (\S+)_(\S+)_(\S+)\.deb (\d+) SHA256:([0-9a-f]{64})", line)
            if not match:
                raise VaultCubeError(f"apt-get --print-uris: cannot parse «{line}»")
            uri, name, _, architecture, size, sha256 = match.groups()
            if sha256 in self._kept:
                debs.append(replace(self._kept[sha256], layer=layer))
                continue
            place = max((known for known in self._archive_of if uri.startswith(known + "/")), key=len)
            stanza = self.listed[sha256]
            path = unquote(uri[len(place) + 1 :])
            archive = self._archive_of[place]
            debs.append(
                Deb(layer, name, stanza.version, architecture, stanza.suite, archive, int(size), sha256, path)
            )  # fmt: skip
        return debs


def _options(root: Path, architecture: str) -> dict[str, str]:
    """Return the configuration of an apt whose state is in a folder."""
    return {
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
        # never accept unsigned archives, whatever this machine's own configuration allows
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
        # Ubuntu offers phased updates to some machines only, but a lock must be the same on every machine
        "APT::Get::Always-Include-Phased-Updates": "true",
        # each source is fetched by its own call, which must not delete the indexes of the others
        "APT::Get::List-Cleanup": "false",
        "Acquire::GzipIndexes": "false",
        "Acquire::Languages": "none",
        "Acquire::ForceHash": "SHA256",
        "Acquire::Retries": "3",
    }


def _errors(stderr: str) -> list[str]:
    """Return the lines that apt marks as errors, or all lines if it marks none."""
    lines = stderr.splitlines()
    return [line for line in lines if line.startswith(("E:", "Error:"))] or lines


def _diagnose(output: str, source: Source) -> tuple[str, str]:
    """Return what is wrong with a mirror, and the remedy, from the output of apt-get update."""
    for pattern, reason, remedy in FAILURES:
        match = re.search(pattern, output, re.MULTILINE)
        if match:
            it = (match.groupdict().get("it") or "").strip()
            return reason.format(it=it, keyring=source.keyring), remedy
    return f"cannot be used ({_errors(output)[0]})", "see apt-get(8)"


def resolve(
    layers: Sequence[tuple[str, Sequence[str]]],
    sources: Sequence[Source],
    configured: dict[str, str],
    architecture: str,
    epoch: int,
    *,
    pins: str = "",
    kept: Kept | None = None,
    named: Mapping[str, Sequence[str]] | None = None,
    kernel: str | None = None,
) -> AptLock:
    """Resolve all layers from the bottom up; a package belongs to the first layer that needs it.

    layers: (name, packages) from the bottom up. sources: their keyrings are files on this machine. configured:
    pillar key image:mirrors. epoch: the lock's timestamp (SOURCE_DATE_EPOCH), in seconds since 1970. pins: apt
    preferences. kept: packages to keep from an older lock. named: pillar key -> names that the indexes must have,
    even if no layer installs them. kernel: the kernel package of the pillar, if the lock must contain exactly one
    kernel. Raises VaultCubeError.
    """
    sources = list(sources)
    with tempfile.TemporaryDirectory(prefix="vault-cube-apt-") as root:
        resolver = Resolver(Path(root), sources, configured, architecture, pins=pins, kept=kept)
        _check_names(resolver, sources, named or {f"{layer}:packages": packages for layer, packages in layers})
        debs = _resolve_layers(resolver, layers)
        if kernel:
            packages = kernels.versions(debs)
            if not kernels.images(packages):
                raise VaultCubeError(
                    f"{kernel}: installs no kernel (no package linux-image-VERSION): name the distribution's kernel "
                    "package in pillar keys base:kernel:package and base:packages"
                )
            if len(packages) > 1:
                debs = _with_one_kernel(resolver, layers, debs, sources, epoch)
        return AptLock(epoch, tuple(sorted(debs)), resolver.components(debs))


def _resolve_layers(resolver: Resolver, layers: Sequence[tuple[str, Sequence[str]]]) -> list[Deb]:
    """Resolve all layers. Raises VaultCubeError if two layers resolve to different versions of a package."""
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
                f"{deb.name}: layer {other.layer} needs {other.version}, layer {deb.layer} needs {deb.version}: "
                f"name the package in pillar key {other.layer}:packages"
            )
    return list(debs.values())


def _check_names(resolver: Resolver, sources: Sequence[Source], named: Mapping[str, Sequence[str]]) -> None:
    """Check that the indexes have all named packages. Raises VaultCubeError with missing ones and their pillar keys."""
    unknown = resolver.unknown(name for names in named.values() for name in names)
    if not unknown:
        return
    lacking = [
        f"{name} ({', '.join(key for key, names in named.items() if name in names)})" for name in sorted(unknown)
    ]
    searched = [
        f"{source.archive} {' '.join(source.suites)}"
        + (f" ({' '.join(source.components)})" if source.components else "")
        for source in sources
    ]
    raise VaultCubeError(
        f"no such package in {', '.join(searched)}: {', '.join(lacking)}: "
        "correct the name in the pillar, or add the component that has it to archive:sources"
    )


def _with_one_kernel(
    resolver: Resolver,
    layers: Sequence[tuple[str, Sequence[str]]],
    debs: Sequence[Deb],
    sources: Sequence[Source],
    epoch: int,
) -> list[Deb]:
    """Resolve again with the newest kernel version for which the archive has all packages of the pillar.

    debs: the packages of all layers as first resolved, with several kernels. Raises VaultCubeError with the packages
    that depend on each kernel if there is no such version.
    """
    packages = kernels.versions(debs)
    named = {name for _, names in layers for name in names}
    locked = {deb.sha256 for deb in debs}
    stanzas = [stanza for stanza in resolver.listed.values() if stanza.sha256 in locked or stanza.name in named]
    for version, preferences in kernels.candidates(packages, debs, stanzas, named):
        resolver.pin(preferences)
        try:
            resolved = _resolve_layers(resolver, layers)
        except VaultCubeError:
            continue
        if len(kernels.versions(resolved)) == 1:
            note(f"the archive's newest kernel packages differ in version: using kernel {version} for all of them")
            return resolved
    dependents = kernels.dependents(packages, debs, stanzas, named)
    listed = [f"{version} (by {', '.join(sorted(dependents[version]))})" for version in packages]
    archive = next(deb.archive for deb in debs if deb.name in kernels.images(packages))
    snapshot = next((source.snapshot for source in sources if source.archive == archive and source.snapshot), None)
    remedy = "wait until the archive has all of them in one version"
    if snapshot:
        week_ago = datetime.datetime.fromtimestamp(epoch, datetime.UTC) - datetime.timedelta(days=7)
        place = snapshot.format(date=week_ago.strftime("%Y%m%dT000000Z"))
        remedy += f", or lock it as it was a week ago: image:mirrors:{archive}: {place}"
    raise VaultCubeError(f"an image has one kernel, but these packages install {' and '.join(listed)}: {remedy}")
