"""Make and serve the stand-in for Ubuntu's archive: see README.md beside this file.

usage: noble_archive.py make FOLDER | serve FOLDER | lock
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import yaml

HERE = Path(__file__).parent
TOP = HERE.parents[1]
sys.path[:0] = [str(TOP), str(HERE), str(HERE.parent)]

# ruff: isort: off
# ruff: noqa: E402 the path comes first
import mirror
import noble_packages
from copied import chosen, merged
from noble_deb import Deb, Parts, build, file_name
from vault_cube import openpgp
from vault_cube.image.download import fetch
from vault_cube.image.locks import contract, resolver
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.store import Store
from vault_cube.image.workspace import default_cache
from vault_cube.settings import Settings, check

LOCK = HERE / "debian.lock"
CONTRACT = TOP / "locks/ubuntu-24.04/contract.json"
SUITES = ("noble", "noble-updates", "noble-security")
COMPONENTS = ("main", "restricted", "universe", "multiverse")
# noble's names of what the target asks for come from its pillar; these are Debian's names of the same things
MORE = ("amd64-microcode", "intel-microcode", "netplan.io", "cloud-guest-utils", "gcc", "g++", "python3-dev")
DRIVER_PARTS = ("libnvidia-ml1", "nvidia-smi", "nvidia-persistenced")
"""packages of Debian's driver from which single files are taken"""


# ---- Debian's packages


def debian() -> Settings:
    """The pillar of Debian 13 with all of the archive's components."""
    return check(merged(*chosen("debian-13-nvidia")))


def resolve() -> AptLock:
    """Today's Debian packages for the archive."""
    plain, keyring = check(merged(*chosen("debian-13"))), str(TOP / "locks/keyrings/debian-archive-keyring.asc")
    sources = [source.model_copy(update={"keyring": keyring}) for source in debian().archive.sources]
    names = [*plain.image.root_packages, *plain.base.packages, *plain.validation.packages, *MORE]
    layers = [("archive", names), ("parts", DRIVER_PARTS)]
    lock = resolver.resolve(layers, sources, {}, "amd64", int(time.time()))
    wanted = tuple(deb for deb in lock.debs if deb.layer == "archive" or deb.name in DRIVER_PARTS)
    return AptLock(lock.epoch, wanted)


def debian_packages(store: Store, lock: AptLock, folder: Path) -> dict[str, Path]:
    """Fetch and lay out the locked packages. Returns their files by name."""
    store.fetch(fetch.wanted_debs(lock, debian().archive.sources, {}), "Debian's packages for the stand-in")
    store.link([(deb.sha256, deb.filename) for deb in lock.debs], folder)
    return {deb.name: folder / deb.filename for deb in lock.debs}


# ---- signing


@dataclass
class Signer:
    """An OpenPGP key that exists as long as the archive is being made."""

    home: Path
    public: bytes

    def sign(self, release: Path) -> None:
        """Write InRelease beside a Release file, which goes."""
        gpg(self.home, "--clearsign", "--output", str(release.with_name("InRelease")), str(release))
        release.unlink()


def gpg(home: Path, *words: str) -> bytes:
    options = ["--batch", "--quiet", "--yes", "--passphrase", "", "--digest-algo", "SHA512"]
    return subprocess.run(["gpg", "--homedir", str(home), *options, *words], capture_output=True, check=True).stdout


@contextmanager
def signer(name: str):
    """A new key; it is gone afterwards, and gpg's agent with it."""
    with tempfile.TemporaryDirectory(prefix="vc-gpg-", dir="/tmp") as folder:  # its socket needs a short path
        home = Path(folder)
        home.chmod(0o700)
        try:
            owner = f"{name} (test stand-in)"
            gpg(home, "--pinentry-mode", "loopback", "--quick-gen-key", owner, "rsa3072", "sign", "1y")
            yield Signer(home, gpg(home, "--export"))
        finally:
            subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)


# ---- indexes


@dataclass(frozen=True)
class Listed:
    """A .deb in a repository, with its stanza for the index."""

    name: str
    component: str
    suite: str
    stanza: str


def listed(file: Path, below: Path, component: str, suite: str) -> Listed:
    """Read a .deb's fields and sums. below: the folder that the index's file names are relative to."""
    fields = subprocess.run(["dpkg-deb", "--field", file], capture_output=True, text=True, check=True).stdout.rstrip()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    where = file.relative_to(below)
    stanza = f"{fields}\nFilename: {where}\nSize: {file.stat().st_size}\nSHA256: {digest}\n"
    return Listed(file.name.partition("_")[0], component, suite, stanza)


def write_index(folder: Path, packages: Iterable[Listed]) -> None:
    """Write Packages and Packages.gz."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(package.stanza for package in sorted(packages, key=lambda package: package.name)).encode()
    (folder / "Packages").write_bytes(text)
    (folder / "Packages.gz").write_bytes(gzip.compress(text, 1, mtime=0))


def write_release(folder: Path, key: Signer, **fields: str) -> None:
    """Write and sign the Release file of a suite's folder."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    lines += [f"Date: {formatdate(usegmt=True)}", "Architectures: amd64", "SHA256:"]
    for file in sorted(folder.rglob("Packages*")):
        data = file.read_bytes()
        lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {file.relative_to(folder)}")
    (folder / "Release").write_text("\n".join(lines) + "\n")
    key.sign(folder / "Release")


def write_suites(archive: Path, packages: list[Listed], key: Signer) -> None:
    """Write dists/ of an archive in Ubuntu's form."""
    for suite in SUITES:
        for component in COMPONENTS:
            here = [package for package in packages if (package.suite, package.component) == (suite, component)]
            write_index(archive / "dists" / suite / component / "binary-amd64", here)
        write_release(
            archive / "dists" / suite, key, Origin="Ubuntu", Label="Ubuntu", Suite=suite, Version="24.04",
            Codename="noble", Components=" ".join(COMPONENTS), Description="stand-in made of Debian 13 packages",
        )  # fmt: skip


# ---- all of it


def make(root: Path, store: Store) -> None:
    """Make the repositories below a new folder; it appears when all are finished.

    Raises VaultCubeError when a Debian package cannot be had.
    """
    os.umask(0o022)
    part = root.with_name(root.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    lock = AptLock.read(LOCK)
    with (
        tempfile.TemporaryDirectory(dir=part) as work,
        signer("Ubuntu archive") as ubuntu,
        signer("NVIDIA") as nvidia,
        signer("Docker") as docker,
    ):
        parts = Parts(debian_packages(store, lock, Path(work) / "debs"), Path(work))
        names = components()
        made = noble_packages.reshape(parts, ubuntu.public, names)
        archive = part / "ubuntu"
        replaced = {deb.name for deb in made["ubuntu"]} | {*noble_packages.REPLACED, *DRIVER_PARTS}
        common = same(lock, parts, archive, replaced, names) + packed(made["ubuntu"], archive)
        for state, folder in (("current", archive), ("lagging", part / "lagging/ubuntu")):
            write_suites(folder, common + packed(made[state], archive), ubuntu)
        (part / "lagging/ubuntu/pool").symlink_to("../../ubuntu/pool")
        (part / "security").mkdir()
        (part / "security/ubuntu").symlink_to("../ubuntu")
        (part / "ubuntu-archive-keyring.asc").write_bytes(gpg(ubuntu.home, "--armor", "--export"))
        vendor(part / "libnvidia-container", made["nvidia"], nvidia)
        foreign(part / "docker/linux/ubuntu", made["docker"], docker)
    shutil.rmtree(root, ignore_errors=True)
    part.rename(root)


def components() -> dict[str, str]:
    """The component of each package that the target's contract knows; every other package is in main."""
    known = contract.read(CONTRACT)
    return {package.name: package.component for package in (*known.packages, *known.elsewhere) if package.component}


def same(lock: AptLock, parts: Parts, archive: Path, replaced: set[str], names: dict[str, str]) -> list[Listed]:
    """Put the packages that are taken as they are into the pool."""
    found = []
    for deb in lock.debs:
        if deb.name in replaced:
            continue
        component = names.get(deb.name, "main")
        file = archive / "pool" / component / file_name(deb.name, deb.version, deb.architecture)
        file.parent.mkdir(parents=True, exist_ok=True)
        parts.debs[deb.name].rename(file)
        found.append((file, component, noble_packages.SUITES.get(deb.name, "noble")))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda item: listed(item[0], archive, *item[1:]), found))


def packed(debs: list[Deb], archive: Path) -> list[Listed]:
    """Build the packages that were reshaped into the pool."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda deb: listed(build(deb, archive / "pool"), archive, deb.component, deb.suite), debs))


def vendor(folder: Path, debs: list[Deb], key: Signer) -> None:
    """NVIDIA's repository: flat, its key beside it in armour."""
    flat = folder / "stable/deb/amd64"
    packages = packed(debs, flat)
    write_index(flat, packages)
    write_release(flat, key, Origin="https://nvidia.github.io/libnvidia-container", Label="NVIDIA CORPORATION")
    (folder / "gpgkey").write_bytes(gpg(key.home, "--armor", "--export"))


def foreign(archive: Path, debs: list[Deb], key: Signer) -> None:
    """Docker's archive: another owner's, whose address ends like Ubuntu's."""
    write_index(archive / "dists/noble/stable/binary-amd64", packed(debs, archive))
    write_release(
        archive / "dists/noble", key, Origin="Docker", Label="Docker CE", Suite="noble", Codename="noble",
        Components="stable",
    )  # fmt: skip


def ready(folder: Path) -> Path:
    """The archive below a folder, made now unless it is there; named after all that it is made of."""
    digest = hashlib.sha256()
    for file in sorted([LOCK, CONTRACT, *HERE.glob("noble_*.py"), noble_packages.CTK]):
        digest.update(file.read_bytes())
    root = folder / f"noble-{digest.hexdigest()[:16]}"
    if not root.exists():
        for old in folder.glob("noble-*"):
            shutil.rmtree(old)
        make(root, Store(store_folder()))
    return root


def store_folder() -> Path:
    """Where Debian's packages are kept: the builder's own store."""
    return Path(os.environ.get("VAULT_CUBE_STORE") or default_cache() / "store")


# ---- the pillar that makes a builder use it


def local_pillar(root: Path, url: str, archive: str = "ubuntu") -> dict:
    """pillar/local.sls for a build against the archive: names, mirrors and keys; nothing of how a box is made.

    url: where `root` is served. archive: `ubuntu`, or `lagging/ubuntu`.
    """
    pillar = merged(*chosen("ubuntu-24.04"))
    (fingerprint,) = openpgp.primary_keys((root / "libnvidia-container/gpgkey").read_bytes())
    (repository,) = pillar["runtime"]["repositories"]
    keyring = {"url": f"{url}/libnvidia-container/gpgkey", "sha256": None, "fingerprint": fingerprint}
    signed_by = pillar["archive"]["sources"][0]["keyring"]
    return {
        "image": {
            "name": "noble-stand-in",
            "mirrors": {
                "ubuntu": f"{url}/{archive}",
                repository["name"]: f"{url}/libnvidia-container/stable/deb/amd64",
            },
            "keyrings": {signed_by: openpgp.primary_keys((root / "ubuntu-archive-keyring.asc").read_bytes())},
        },
        # Debian 13's, which the stand-in is made of
        "target": {"python": "3.13"},
        "archive": {"sources": [{**source, "snapshot": None} for source in pillar["archive"]["sources"]]},
        "runtime": {"repositories": [{**repository, "keyring": keyring}]},
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["lock"]:
            LOCK.write_text(resolve().text())
        case ["make", folder]:
            make(Path(folder), Store(store_folder()))
        case ["serve", folder]:
            with mirror.running(Path(folder)) as server:
                print(yaml.safe_dump(local_pillar(Path(folder), server.url)), flush=True)
                sys.stdin.read()
        case _:
            sys.exit(__doc__)
