"""The store: every fetched file under its sha256, shared by all targets; what is not verified never gets in."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import requests

from vault_cube.errors import VaultCubeError
from vault_cube.image.progress import byte_bar

CHUNK = 1 << 20
CONNECTIONS = 6


@dataclass(frozen=True)
class Wanted:
    """A file that a build needs: what it must be, and where it may be had, best place first."""

    sha256: str
    name: str
    size: int
    """bytes; 0 where the lock does not say"""
    places: tuple[str, ...]


class Unavailable(VaultCubeError):
    """Nobody serves some of the wanted files any more."""

    def __init__(self, missing: Sequence[tuple[Wanted, str]]) -> None:
        self.missing = [wanted for wanted, _ in missing]
        first, why = missing[0]
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        super().__init__(f"{first.name}{more} cannot be fetched: {why}")


class Store:
    """Content-addressed files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def verified(self, sha256: str, name: str) -> Path:
        """The file, after reading all of it. Raises VaultCubeError, and drops the file, when a bit differs."""
        path = self.path(sha256)
        if not path.exists():
            raise VaultCubeError(f"{name}: not in the store {self.root}: run `salt-call image.fetch`")
        if sha256_of(path) != sha256:
            path.unlink()
            raise VaultCubeError(
                f"{name}: damaged in the store ({path}): removed; run the build again to fetch it anew"
            )
        # used now: what goes first when the store outgrows its limit; not every file system notes a reading
        with suppress(OSError):
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return path

    def evict(self, limit: int, keep: Collection[str]) -> int:
        """Remove the least recently used files until `limit` bytes are kept; never those of `keep` (sha256).

        Returns the bytes freed.
        """
        found = [(path, path.stat()) for path in self.root.glob("*/*")]
        total, freed = sum(status.st_size for _, status in found), 0
        for path, status in sorted(found, key=lambda pair: pair[1].st_atime_ns):
            if total - freed <= limit:
                break
            if path.name not in keep:
                path.unlink(missing_ok=True)
                freed += status.st_size
        return freed

    def link(self, wanted: Iterable[tuple[str, str]], folder: Path) -> None:
        """Hard-link files under their names into a folder, verifying each: (sha256, name)."""
        folder.mkdir(parents=True, exist_ok=True)

        def one(pair: tuple[str, str]) -> None:
            os.link(self.verified(*pair), folder / pair[1])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(one, wanted))

    def fetch(self, wanted: Iterable[Wanted], title: str) -> int:
        """Bring what is missing; returns the bytes fetched. Raises Unavailable, with what did arrive kept."""
        missing = list({file.sha256: file for file in wanted if not self.has(file.sha256)}.values())
        if not missing:
            return 0
        total = sum(file.size for file in missing)
        free = shutil.disk_usage(existing(self.root)).free
        if total > free:
            raise VaultCubeError(f"{self.root}: {total >> 20} MiB to fetch, {free >> 20} MiB free: make room")
        part = self.root / "part"
        part.mkdir(parents=True, exist_ok=True)
        session = requests.Session()
        session.proxies.update(_apt_proxies())
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=2)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        stop = threading.Event()
        failed: list[tuple[Wanted, str]] = []
        with byte_bar(title, total) as advance, ThreadPoolExecutor(CONNECTIONS) as pool:
            jobs = {pool.submit(self._bring, session, file, advance, stop): file for file in missing}
            try:
                for job in as_completed(jobs):
                    why = job.result()
                    if why:
                        failed.append((jobs[job], why))
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        if failed:
            raise Unavailable(sorted(failed, key=lambda pair: pair[0].name))
        return total

    def _bring(
        self, session: requests.Session, file: Wanted, advance: Callable[[int], None], stop: threading.Event
    ) -> str | None:
        """Fetch one file from the first place that has it. Returns why it could not be had, or None."""
        why = "no address is known for it"
        for place in file.places:
            try:
                self._download(session, place, file, advance, stop)
            except (requests.RequestException, OSError, ValueError) as err:
                why = f"{place}: {_reason(err)}"
            else:
                return None
        return why

    def _download(
        self, session: requests.Session, place: str, file: Wanted, advance: Callable[[int], None], stop: threading.Event
    ) -> None:
        target = self.path(file.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        # named after the content, so that the next run goes on where this one was cut off
        part = self.root / "part" / file.sha256
        have = part.stat().st_size if part.exists() else 0
        if urlparse(place).scheme == "file":
            shutil.copyfile(unquote(urlparse(place).path), part)
            advance(part.stat().st_size)
        else:
            with session.get(
                place, stream=True, timeout=(10, 60), headers={"Range": f"bytes={have}-"} if have else {}
            ) as answer:
                if answer.status_code == 416:
                    part.unlink()
                answer.raise_for_status()
                resumed = answer.status_code == 206
                if resumed:
                    advance(have)
                with part.open("ab" if resumed else "wb") as out:
                    for chunk in answer.iter_content(CHUNK):
                        if stop.is_set():
                            raise ValueError("stopped")
                        out.write(chunk)
                        advance(len(chunk))
        size = part.stat().st_size
        if file.size and size < file.size:
            raise ValueError(f"only {size} of {file.size} bytes came")
        if sha256_of(part) != file.sha256:
            part.unlink()
            raise ValueError("its sha256 is not the lock's")
        part.chmod(0o444)
        part.replace(target)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _reason(err: Exception) -> str:
    if isinstance(err, requests.HTTPError) and err.response is not None:
        return f"the server answers {err.response.status_code}"
    if isinstance(err, requests.ConnectionError):
        return "cannot connect"
    return str(err)


def _apt_proxies() -> dict[str, str]:
    """The proxies that apt on this machine is told to use."""
    found = {}
    for scheme in ("http", "https"):
        try:
            ran = subprocess.run(
                ["apt-config", "shell", "P", f"Acquire::{scheme}::Proxy"], capture_output=True, text=True, check=False
            )
        except OSError:
            return {}
        value = ran.stdout.strip().removeprefix("P=").strip("'")
        if value and value != "DIRECT":
            found[scheme] = value
    return found


def existing(path: Path) -> Path:
    """The nearest folder above a path that is there already."""
    while not path.exists():
        path = path.parent
    return path
