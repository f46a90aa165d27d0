"""The folders of a build: the checkout, the cache that all targets share, and the folders of the target."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings

STAGED = "/run/vault-cube/checkout"
"""Where the files of the checkout that a layer needs are mounted while the layer is built."""

LAYERS = ("base", "driver", "runtime", "frameworks", "validation")
ROOT = "root"
ORDER = (ROOT, *LAYERS)
"""All trees of an image, from the bottom up."""

KEYRINGS = "keyrings.lock"
"""The lock of the vendors' signing keys, beside a target's other locks."""


@dataclass(frozen=True)
class Workspace:
    """The settings and folders of a build, passed to each of its steps."""

    checkout: Path
    settings: Settings
    pillar: Mapping[str, Any]
    """The same values as Salt rendered them, for the layers' states and keys."""
    locked: bool = False
    """If True, a locked file that is no longer available is an error; otherwise it is re-resolved."""
    cache: Path = field(default_factory=lambda: default_cache())  # noqa: PLW0108 defined below
    store: Path = field(default_factory=lambda: Path(os.environ.get("VAULT_CUBE_STORE") or default_cache() / "store"))

    @property
    def target(self) -> str:
        """The name of the target."""
        return self.settings.target.name

    @property
    def build(self) -> Path:
        """The folder of the target's intermediate files."""
        return self.checkout / "build" / self.target

    @property
    def logs(self) -> Path:
        """The folder of the build's logs."""
        return self.build / "logs"

    @property
    def dist(self) -> Path:
        """The folder of finished images, which all targets share."""
        return self.checkout / "dist"

    @property
    def lock_root(self) -> Path:
        """The folder of all locks: the checkout's `locks/`, or that of the build's own locks (`download/relock.py`)."""
        own = self.build / "locks"
        if self.locked or not own.exists():
            return self.checkout / "locks"
        try:
            current = (own / "of").read_text() == locks_digest(self.checkout / "locks", self.target)
        except OSError:
            current = False
        return own if current else self.checkout / "locks"

    @property
    def locks(self) -> Path:
        """The folder of the target's locks."""
        return self.lock_root / self.target

    @property
    def tools_lock(self) -> Path:
        """The lock of the tools tree."""
        return self.lock_root / "tools.lock"

    @property
    def layers(self) -> Path:
        """The folder of finished layers, root trees and tools trees, one folder per key."""
        return self.cache / "layers"

    @property
    def uv(self) -> Path:
        """The uv of the Python environment that runs this process."""
        return Path(sys.executable).parent / "uv"

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Provide a scratch folder on the cache's file system, removed at the end.

        Scratch folders that killed processes left are removed first: their lock files are not locked any more.
        """
        work = self.cache / "work"
        work.mkdir(parents=True, exist_ok=True)
        sweep(work)
        folder = work / f"{self.target}-{name}-{os.getpid()}"
        lock = folder.with_name(folder.name + ".lock")
        with _owned(lock):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock that allows one build per target and checkout. Raises VaultCubeError if another one runs."""
        os.umask(0o022)  # the modes of files in an image must not depend on the caller's umask
        self.build.mkdir(parents=True, exist_ok=True)
        with (self.build / "lock").open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                handle.seek(0)
                raise VaultCubeError(
                    f"another build of {self.target} runs in this checkout (process {handle.read().strip() or '?'}): "
                    "wait for it or stop it"
                ) from err
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield


def locks_digest(folder: Path, target: str) -> str:
    """Compute the SHA-256 over all locks that a target's build reads. folder: the folder `locks/`."""
    digest = hashlib.sha256()
    for file in (folder / "tools.lock", *sorted((folder / target).glob("*.lock"))):
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def default_cache() -> Path:
    """Return the cache folder: `VAULT_CUBE_CACHE`, or `vault-cube` below `XDG_CACHE_HOME` or `~/.cache`."""
    own = os.environ.get("VAULT_CUBE_CACHE")
    if own:
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vault-cube"


@contextmanager
def _owned(lock: Path) -> Iterator[None]:
    """Hold a scratch folder's lock file."""
    while True:
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # sweep() of another process may have removed the file before it was locked
            if lock.exists() and os.path.samestat(lock.stat(), os.fstat(handle.fileno())):
                yield
                return


def sweep(work: Path) -> None:
    """Remove the scratch folders of processes that have ended."""
    for lock in work.glob("*.lock"):
        try:
            handle = lock.open("r")
        except FileNotFoundError:
            continue
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock.with_name(lock.name.removesuffix(".lock")), ignore_errors=True)
            lock.unlink(missing_ok=True)
