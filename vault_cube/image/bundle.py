"""`make bundle`: pack the checkout and all files that `make image` downloads, for a machine without a network.

`carried/` in the archive has three parts: the stored files that the target's locks name, the wheels of the checkout's
environment, and a repository of the packages that `make` installs on the builder itself. The Makefile and scripts/*.sh
use them in place. The receiving machine needs the same release of the same distribution, `make` and root.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image import checkout, recipe, store
from vault_cube.image.attest import finished
from vault_cube.image.inputs import Locks
from vault_cube.image.layers import repository
from vault_cube.image.locks import indexes, vendors
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.progress import note, step
from vault_cube.image.store import Store, Wanted
from vault_cube.image.workspace import Workspace


def make(space: Workspace, packages: Sequence[str]) -> Path:
    """Write `dist/<image>.bundle.tar` and its SHA256SUMS. Returns the path of the archive.

    packages: names of the packages that `make` installs on the builder with apt.
    """
    name = finished.basename(space)
    file = space.dist / f"{name}.bundle.tar"
    with space.exclusive(), space.scratch("bundle") as work:
        recipe.make_fetch(space)
        top = work / name
        checkout.copy(space.checkout, top)
        with step("bundle: wheels of the checkout's environment"):
            wheels(space.checkout / "locks/checkout.lock", top / "carried/wheels")
        with step("bundle: packages for the builder"):
            builder_debs = debs(packages)
            stored = Store(space.store)
            stored.fetch([wanted for _, wanted in builder_debs], "packages")
            repository.make(stored, [deb for deb, _ in builder_debs], top / "carried/debs", codename())
        (top / "carried/machine").write_text(f"{codename()} {python_version()}\n")
        with step("bundle: stored files and archive"):
            locks = Locks.read(space)
            link_store(space, locks, top / "carried/store")
            space.dist.mkdir(exist_ok=True)
            staging = file.with_name(f".{file.name}")
            pack(top, staging, locks.packages.epoch)
        staging.replace(file)
    sums = space.dist / f"{name}.bundle.SHA256SUMS"
    sums.write_text(f"{store.sha256_of(file)}  {file.name}\n")
    note(f"{file}: {file.stat().st_size / (1 << 30):.2f} GiB, for {codename()} with Python {python_version()}")
    return file


def codename() -> str:
    """Return the codename of this machine's release, such as `bookworm`."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")


def python_version() -> str:
    """Return the version of the running Python, such as `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def link_store(space: Workspace, locks: Locks, folder: Path) -> None:
    """Link all files that the target's locks name from the store into a new store; each file is verified first."""
    stored, part = Store(space.store), Store(folder)
    files = [(deb.sha256, deb.filename) for deb in (*locks.packages.debs, *locks.tools.debs)]
    files += [(wheel.sha256, wheel.file) for wheels in locks.wheels.values() for wheel in wheels]
    files += [(key.sha256, key.name) for key in vendors.wanted(space, locks.vendor_keys)]
    for sha256, name in dict(files).items():
        target = part.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(stored.verified(sha256, name), target)


def wheels(lock: Path, folder: Path) -> None:
    """Download the wheels and source archives of the checkout's lock for this Python, and their build requirements."""
    _pip("--require-hashes", "-r", str(lock), "-d", str(folder))
    needed = {requirement for archive in folder.glob("*.tar.gz") for requirement in build_requirements(archive)}
    if needed:
        _pip(*sorted(needed), "-d", str(folder))


def build_requirements(archive: Path) -> list[str]:
    """Return the build requirements in a source archive's pyproject.toml; setuptools and wheel if it has none."""
    with tarfile.open(archive) as opened:
        for member in opened:
            if re.fullmatch(r"[^/]+/pyproject\.toml", member.name):
                handle = opened.extractfile(member)
                text = handle.read().decode() if handle else ""
                requires: list[str] = tomllib.loads(text).get("build-system", {}).get("requires", [])
                return requires
    return ["setuptools", "wheel"]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    ran = process.run([*command, *arguments], ok=None, env={**os.environ, **indexes.environment()})
    if ran.returncode:
        raise VaultCubeError(f"pip cannot download the checkout's wheels: {indexes.explained(ran.stderr)}")


def debs(packages: Iterable[str]) -> list[tuple[Deb, Wanted]]:
    """Resolve packages and their dependencies with this machine's apt, as if nothing were installed.

    Returns each package with its download. Raises VaultCubeError if apt-get fails.
    """
    with tempfile.TemporaryDirectory() as archives:
        (Path(archives) / "partial").mkdir()
        # ignore packages that are installed, or in apt's cache, on this machine
        command = [
            "apt-get", "-qq", "--print-uris", "-oDir::State::status=/dev/null", f"-oDir::Cache::archives={archives}",
            "-oAcquire::ForceHash=SHA256", "-oAPT::Install-Recommends=false", "install", *packages,
        ]  # fmt: skip
        ran = process.run(command, ok=None)
    if ran.returncode:
        error = (ran.stderr.strip() or "no reason given").splitlines()[0]
        raise VaultCubeError(f"apt-get cannot resolve {' '.join(packages)} (try `apt-get update`): {error}")
    downloads = []
    for line in ran.stdout.splitlines():
        match = re.fullmatch(r"'(\S+)' (\S+)_(\S+)_(\S+)\.deb (\d+) SHA256:([0-9a-f]{64})", line)
        if not match:
            raise VaultCubeError(f"apt-get --print-uris: cannot read «{line}»")
        uri, name, version, architecture, size, sha256 = match.groups()
        path = unquote(urlparse(uri).path)
        deb = Deb("machine", name, unquote(version), architecture, "-", "-", int(size), sha256, path)
        downloads.append((deb, Wanted(sha256, deb.filename, deb.size, (uri,), by_apt=True)))
    return downloads


def pack(top: Path, file: Path, epoch: int) -> None:
    """Write a folder as a reproducible tar archive. epoch: the time of all files, seconds since 1970."""
    # not compressed, because packages and wheels already are
    command = [
        "tar", "--sort=name", f"--mtime=@{epoch}", "--owner=0", "--group=0", "--numeric-owner",
        "--mode=u+rwX,go+rX,go-w", "--hard-dereference", "-cf", str(file), "-C", str(top.parent), top.name,
    ]  # fmt: skip
    try:
        process.run(command, purpose=str(file))
    except process.CommandFailed:
        file.unlink(missing_ok=True)
        raise
