"""Compare the installed packages with those of the image, and verify packages that were updated since.

An update is verified in three steps, as far as the box has the data: the archive's signed index lists the version; the
files have the checksums that dpkg recorded; these checksums are those of the archive's own package, if it is still in
apt's cache. The last step is the only one that root on the box cannot forge.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vault_cube.drift.manifest import Manifest
from vault_cube.drift.programs import output
from vault_cube.drift.reading import content, text

STATUS = "var/lib/dpkg/status"
INFO = "var/lib/dpkg/info"
LISTS = "var/lib/apt/lists"
ARCHIVES = "var/cache/apt/archives"
KEYRINGS = "usr/share/keyrings"
GPGV, SQV = Path("/usr/bin/gpgv"), Path("/usr/bin/sqv")
"""apt's programs that verify signatures: Debian 13 has sqv only."""


@dataclass(frozen=True)
class Installed:
    """A package in dpkg's status file."""

    name: str
    version: str
    architecture: str
    conffiles: Mapping[str, str] = field(default_factory=dict)
    """Path → MD5 of the package's version of the file."""

    @property
    def key(self) -> str:
        """`name:architecture`, as in the manifest's header."""
        return f"{self.name}:{self.architecture}"


def stanzas(control: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each stanza of a Debian control file."""
    for block in re.split(r"\n\n+", control.strip("\n")):
        fields: dict[str, str] = {}
        last = ""
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            if line[:1] in (" ", "\t") and fields:
                fields[last] += f"\n{line.strip()}"
            elif colon:
                last = name
                fields[last] = value.strip()
        if fields:
            yield fields


def installed(root: Path) -> dict[str, Installed]:
    """Read the installed packages of a tree: `name:architecture` → package. Raises OSError."""
    return read(text(root / STATUS))


def read(status: str) -> dict[str, Installed]:
    """Read the installed packages from dpkg's status file: `name:architecture` → package."""
    packages = {}
    for fields in stanzas(status):
        if not fields.get("Status", "").endswith(" installed"):
            continue
        words = [line.split() for line in fields.get("Conffiles", "").split("\n") if line]
        conffiles = {parts[0].lstrip("/"): parts[1] for parts in words if len(parts) > 1}
        package = Installed(fields["Package"], fields["Version"], fields["Architecture"], conffiles)
        packages[package.key] = package
    return packages


def info_file(root: Path, package: str, ending: str) -> Path:
    """Return dpkg's file about a package, such as `bash.list` or `libc6:amd64.md5sums`. package: name:architecture."""
    name = package.partition(":")[0]
    qualified = root / INFO / f"{package}.{ending}"
    return qualified if qualified.exists() else root / INFO / f"{name}.{ending}"


def merged_usr(path: str, links: Mapping[str, str]) -> str:
    """Return the real path of a packaged file: packages may name /lib/x for /usr/lib/x. links: folder → its target."""
    top, slash, rest = path.partition("/")
    return f"{links[top]}/{rest}" if slash and top in links else path


def top_links(root: Path) -> dict[str, str]:
    """Return the symbolic links in the root folder, such as `lib` → `usr/lib`."""
    return {item.name: str(item.readlink()).strip("/") for item in root.iterdir() if item.is_symlink()}


def files(root: Path, package: str) -> list[str]:
    """List the files of a package, relative to the root. package: name:architecture. Raises OSError."""
    links = top_links(root)
    lines = text(info_file(root, package, "list")).splitlines()
    return [merged_usr(line.lstrip("/"), links) for line in lines if line not in ("", "/.")]


@dataclass(frozen=True)
class Update:
    """A package that differs from the image's."""

    name: str
    old: str
    """Version in the image; empty if it has none."""
    new: str
    """Installed version; empty if it was removed."""
    verdict: str = ""
    """`verified`, `refuted`, `unknown`; empty for a package that is missing."""
    reason: str = ""
    wrong: tuple[str, ...] = ()
    """Files whose checksum differs."""
    good: frozenset[str] = frozenset()
    """Files whose checksum is right."""
    others: frozenset[str] = frozenset()
    """Files without a checksum, such as folders and links."""

    def change(self) -> str:
        """Describe the difference in a few words."""
        return f"version {self.old or 'none'} → {self.new or 'none'}"


def updates(root: Path, manifest: Manifest) -> list[Update]:
    """List the packages that differ from the image's, each new version verified. Raises OSError."""
    before, after = manifest.header["packages"], installed(root)
    changed = [key for key in sorted(before.keys() | after.keys())
               if before.get(key) != (after[key].version if key in after else None)]  # fmt: skip
    listed = _listed(root, {key.partition(":")[0] for key in changed if key in after}) if changed else {}
    result = []
    for key in changed:
        if key not in after:
            result.append(Update(key, before[key], ""))
        else:
            result.append(_verified(root, before.get(key, ""), after[key], listed))
    return result


def _verified(root: Path, old: str, package: Installed, listed: Mapping[str, str] | None) -> Update:
    """Verify an added or updated package. listed: the SHA-256 of each package in signed indexes; None: no index."""
    wrong, good, others = _checksums(root, package)
    update = Update(package.key, old, package.version, wrong=tuple(wrong), good=good, others=others)

    def judged(verdict: str, reason: str) -> Update:
        return Update(**{**vars(update), "verdict": verdict, "reason": reason})

    sha256 = (listed or {}).get(f"{package.key}={package.version}")
    refuted = {
        f"{len(wrong)} files differ from the package's checksums: {', '.join(wrong[:3])}": bool(wrong),
        "not in the image": not old,
        "older than the image's version": bool(old) and _older(package.version, old),
        "no signed index of an archive on this box lists this version": listed is not None and sha256 is None,
    }
    if reason := next((reason for reason, applies in refuted.items() if applies), ""):
        return judged("refuted", reason)
    if sha256 is None:
        return judged("unknown", "no signed index of an archive on this box (apt-get update)")
    deb = root / ARCHIVES / f"{package.name}_{package.version.replace(':', '%3a')}_{package.architecture}.deb"
    proof = _proof(root, deb, package, sha256)
    if proof is None:
        return judged("refuted", f"dpkg's checksums differ from those in {deb.name}")
    return judged("verified", proof)


def _checksums(root: Path, package: Installed) -> tuple[list[str], frozenset[str], frozenset[str]]:
    """Compare the files of a package with dpkg's checksums. Returns those that differ, that are equal, and others."""
    links = top_links(root)
    try:
        lines = text(info_file(root, package.key, "md5sums")).splitlines()
    except OSError:
        lines = []
    sums = {merged_usr(path.lstrip("/"), links): digest for digest, _, path in (line.partition("  ") for line in lines)}
    wrong, good = [], set()
    for path, digest in sums.items():
        try:
            equal = hashlib.md5(content(root / path), usedforsecurity=False).hexdigest() == digest
        except OSError:
            equal = False
        if equal:
            good.add(path)
        else:
            wrong.append(path)
    for path, digest in package.conffiles.items():
        try:
            if hashlib.md5(content(root / path), usedforsecurity=False).hexdigest() == digest:
                good.add(path)
        except OSError:
            pass
    try:
        everything = set(files(root, package.key))
    except OSError:
        everything = set()
    return wrong, frozenset(good), frozenset(everything - set(sums) - set(package.conffiles))


def _older(version: str, than: str) -> bool:
    return output(["/usr/bin/dpkg", "--compare-versions", version, "lt", than]) is not None


def _proof(root: Path, deb: Path, package: Installed, sha256: str) -> str | None:
    """Compare dpkg's checksums with those in the package file, if apt's cache has it. None: they differ."""
    weak = "dpkg's checksums, and a signed index lists the version"
    try:
        if hashlib.sha256(content(deb)).hexdigest() != sha256:
            return weak
        recorded = content(info_file(root, package.key, "md5sums"))
    except OSError:
        return weak
    sums = output(["/usr/bin/dpkg-deb", "-I", deb, "md5sums"])
    return weak if sums is None else "the archive's own package" if sums == recorded else None


def _listed(root: Path, names: set[str]) -> dict[str, str] | None:
    """Return `name:architecture=version` → SHA-256 from all signed indexes; None if there is none."""
    listed: dict[str, str] = {}
    usable = False
    for release in sorted((root / LISTS).glob("*_InRelease")):
        signed = _signed(root, release)
        prefix = release.name.removesuffix("InRelease")
        for digest, name in re.findall(r"^ ([0-9a-f]{64}) +\d+ (\S+/Packages)$", signed, re.MULTILINE):
            index = release.with_name(prefix + name.replace("/", "_"))
            try:
                data = content(index)
            except OSError:
                continue
            if hashlib.sha256(data).hexdigest() != digest:
                continue
            usable = True
            for fields in stanzas(data.decode(errors="replace")):
                if fields.get("Package") in names:
                    key = f"{fields['Package']}:{fields['Architecture']}={fields['Version']}"
                    listed[key] = fields.get("SHA256", "")
    return listed if usable else None


def _signed(root: Path, release: Path) -> str:
    """Return the text of an index's release file if one of the box's archive keys has signed it, or an empty string."""
    keyrings = sorted((root / KEYRINGS).glob("*.[gp][pg][gc]")) + sorted((root / "etc/apt/keyrings").glob("*.gpg"))
    options = [word for keyring in keyrings for word in ("--keyring", str(keyring))]
    if GPGV.exists():
        return (output([GPGV, *options, "--output", "-", release]) or b"").decode(errors="replace")
    try:
        with tempfile.TemporaryDirectory() as folder:
            # sqv writes the text to a new file only
            text = Path(folder) / "text"
            verified = output([SQV, *options, "--cleartext", f"--output={text}", release])
            return "" if verified is None else text.read_text(errors="replace")
    except OSError:
        return ""
