"""The store: fetched files named by SHA-256, shared by all targets, each verified before it is added."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import requests
import urllib3

from vault_cube.errors import VaultCubeError
from vault_cube.image.apt_network import AptNetwork, session
from vault_cube.image.progress import byte_bar

# hide urllib3's retry warnings: a failure is reported once, by this module
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

CHUNK = 1 << 18
CONNECTIONS = 6
CONNECT_S, SILENCE_S = 10, 20
"""Connect timeout and read timeout, in seconds."""
ATTEMPTS = 3
"""Number of tries per URL; each resumes where the previous one was interrupted."""


@dataclass(frozen=True)
class Wanted:
    """A file that a build needs."""

    sha256: str
    name: str
    size: int
    """Size in bytes; 0 if it is not known."""
    places: tuple[str, ...]
    """URLs of the file, in the order in which they are tried."""
    by_apt: bool = False
    """Whether the file is in an apt archive, which apt's own proxies and logins reach; others use the environment's."""


@dataclass(frozen=True)
class Failure:
    """A file that could not be fetched, and the reason."""

    wanted: Wanted
    why: str
    gone: bool
    """True if at least one server has no such file, and none returned a wrong or incomplete file."""


class Unavailable(VaultCubeError):
    """Some files could not be fetched."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = failures
        first = failures[0]
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        super().__init__(f"{first.wanted.name}{more} cannot be fetched: {first.why}")

    @property
    def gone(self) -> bool:
        """True if all of the files were removed from their servers: re-resolving can help, waiting cannot."""
        return all(failure.gone for failure in self.failures)


class Refused(Exception):
    """One URL did not yield the file.

    kind: `gone` (there is no such file), `broken` (an error, or a wrong or incomplete file) or `silent` (no answer).
    again: whether another try at the same URL may succeed.
    """

    def __init__(self, why: str, kind: str, *, again: bool = False) -> None:
        self.kind, self.again = kind, again
        super().__init__(why)


class Stop:
    """A switch that stops the downloads of all threads at once, even those that wait for a server's data."""

    def __init__(self) -> None:
        self.wanted = False
        self._reading: set[Any] = set()
        self._lock = threading.Lock()

    @contextmanager
    def reads(self, response: Any) -> Iterator[None]:
        """Register a response, so that `now` can interrupt its reading. Raises Refused if already stopped."""
        with self._lock:
            self._reading.add(response)
        try:
            if self.wanted:
                raise Refused("stopped", "silent")
            yield
        finally:
            with self._lock:
                self._reading.discard(response)

    def now(self) -> None:
        """Interrupt all registered downloads."""
        self.wanted = True
        with self._lock:
            for response in self._reading:
                response.shutdown()


@dataclass(frozen=True)
class Client:
    """The HTTP client of all downloads."""

    session: requests.Session
    apt: AptNetwork

    @classmethod
    def of_machine(cls) -> Client:
        """Return a client with this machine's proxies, certificates and logins."""
        return cls(session(CONNECTIONS, retries=2), AptNetwork.of_machine())

    def get(
        self,
        url: str,
        *,
        by_apt: bool,
        timeouts_s: tuple[float, float] = (CONNECT_S, SILENCE_S),
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Request a URL. Returns the response before its body is read. Raises requests.RequestException.

        by_apt: reach it as this machine's apt does. timeouts_s: connect timeout and read timeout, in seconds.
        """
        own = self.apt.arguments(url) if by_apt else {}
        return self.session.get(url, stream=True, timeout=timeouts_s, headers=headers, **own)


class Store:
    """Content-addressed files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Return the path of a file in the store, whether or not it exists."""
        return self.root / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Return whether the store has a file, without verifying it."""
        return self.path(sha256).exists()

    def verified(self, sha256: str, name: str) -> Path:
        """Read a file of the store completely and verify it.

        Returns its path. Raises VaultCubeError if it is missing or damaged; a damaged file is removed.
        """
        path = self.path(sha256)
        if not path.exists():
            raise VaultCubeError(f"{name}: not in the store {self.root}: run `salt-call image.fetch`")
        if sha256_of(path) != sha256:
            path.unlink()
            raise VaultCubeError(
                f"{name}: damaged in the store ({path}): removed; run the build again to fetch it again"
            )
        # evict() goes by the access time, which not every file system updates when a file is read
        with suppress(OSError):
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return path

    def add(self, data: bytes) -> str:
        """Add data that the caller has verified. Returns its SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        part = self.root / "part" / f"{sha256}.{os.getpid()}"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.chmod(0o444)
        self.path(sha256).parent.mkdir(parents=True, exist_ok=True)
        part.replace(self.path(sha256))
        return sha256

    def evict(self, limit: int, keep: Collection[str]) -> int:
        """Remove the least recently used files until the store takes at most `limit` bytes.

        keep: SHA-256 of files that are never removed. Returns the number of bytes freed.
        """
        files = [(path, path.stat()) for path in self.root.glob("*/*")]
        total, freed = sum(status.st_size for _, status in files), 0
        for path, status in sorted(files, key=lambda pair: pair[1].st_atime_ns):
            if total - freed <= limit:
                break
            if path.name not in keep:
                path.unlink(missing_ok=True)
                freed += status.st_size
        return freed

    def link(self, wanted: Iterable[tuple[str, str]], folder: Path) -> None:
        """Verify files and link them into a folder; copy them if hard links are not possible.

        wanted: (sha256, name in the folder). Raises VaultCubeError if a file is missing or damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)

        def link_file(pair: tuple[str, str]) -> None:
            stored = self.verified(*pair)
            try:
                os.link(stored, folder / pair[1])
            except OSError as err:
                if err.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                    raise
                shutil.copyfile(stored, folder / pair[1])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(link_file, wanted))

    def fetch(self, wanted: Iterable[Wanted], title: str) -> int:
        """Fetch the files that the store lacks.

        title: label of the progress bar. Returns the number of bytes fetched. Raises Unavailable if files could not be
        fetched, after all others were added; VaultCubeError if there is not enough disk space.
        """
        missing = list({file.sha256: file for file in wanted if not self.has(file.sha256)}.values())
        if not missing:
            return 0
        total = sum(file.size for file in missing)
        free = shutil.disk_usage(existing(self.root)).free
        if total > free:
            raise VaultCubeError(f"{self.root}: {total >> 20} MiB to fetch, {free >> 20} MiB free: make room")
        (self.root / "part").mkdir(parents=True, exist_ok=True)
        client = Client.of_machine()
        stop = Stop()
        failures: list[Failure] = []
        with byte_bar(title, total) as advance, ThreadPoolExecutor(CONNECTIONS) as pool:
            jobs = [pool.submit(self._fetch_file, client, file, advance, stop) for file in missing]
            try:
                for job in as_completed(jobs):
                    failure = job.result()
                    if failure:
                        failures.append(failure)
            except BaseException:
                stop.now()
                pool.shutdown(cancel_futures=True)
                raise
        if failures:
            # the message names the first failure; a file that is not gone prevents re-resolving, so put it first
            raise Unavailable(sorted(failures, key=lambda failure: (failure.gone, failure.wanted.name)))
        return sum(self.path(file.sha256).stat().st_size for file in missing)

    def _fetch_file(self, client: Client, file: Wanted, advance: Callable[[int], None], stop: Stop) -> Failure | None:
        """Fetch one file from the first URL that has it. Returns the failure, or None on success."""
        reasons: list[tuple[str, Refused]] = []
        for place in file.places:
            for _ in range(ATTEMPTS):
                try:
                    self._download(client, place, file, advance, stop)
                except Refused as err:
                    refused = err
                except (requests.RequestException, urllib3.exceptions.HTTPError) as err:
                    refused = refusal(err)
                except OSError as err:
                    # the error is local, such as a full disk: other URLs cannot help
                    raise VaultCubeError(f"{err.filename or self.root}: {err.strerror or err}") from err
                else:
                    return None
                if not refused.again or stop.wanted:
                    break
            reasons.append((place, refused))
        if not reasons:
            return Failure(file, "no configured archive or index has it", gone=True)
        kinds = {refused.kind for _, refused in reasons}
        # report the most informative reason
        place, reason = min(reasons, key=lambda pair: ("broken", "gone", "silent").index(pair[1].kind))
        return Failure(file, f"{place}: {reason}", gone="gone" in kinds and "broken" not in kinds)

    def _download(self, client: Client, place: str, file: Wanted, advance: Callable[[int], None], stop: Stop) -> None:
        """Add a file from one URL. Raises Refused."""
        # name the partial file by its SHA-256, so that the next run can resume the download
        part = self.root / "part" / file.sha256
        if urlparse(place).scheme == "file":
            local = Path(unquote(urlparse(place).path))
            if not local.is_file():
                raise Refused("no such file", "gone")
            shutil.copyfile(local, part)
            advance(part.stat().st_size)
            have = 0
        else:
            have = _receive(client, place, file, part, advance=advance, stop=stop)
        size = part.stat().st_size
        if size < file.size:
            raise Refused(f"received only {size} of {file.size} bytes", "broken", again=True)
        if sha256_of(part) != file.sha256:
            part.unlink()
            advance(-size)
            # the error may be in the part that an earlier run downloaded
            raise Refused("its sha256 differs from the lock", "broken", again=bool(have))
        part.chmod(0o444)
        target = self.path(file.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)


def _receive(
    client: Client, place: str, file: Wanted, part: Path, *, advance: Callable[[int], None], stop: Stop
) -> int:
    """Receive a file from a server; resume an interrupted download.

    part: the partial file. Returns how many of its bytes are from an earlier download. Raises Refused.
    """
    have = part.stat().st_size if part.exists() else 0
    # a compressed transfer would change the bytes
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with (
        client.get(place, by_apt=file.by_apt, headers=headers) as response,
        stop.reads(response.raw),
    ):
        if response.status_code in (404, 410):
            raise Refused(f"the server returned status {response.status_code}", "gone")
        if response.status_code == 416:
            part.unlink()
            raise Refused("the server returned status 416", "broken", again=True)
        response.raise_for_status()
        resumed = response.status_code == 206
        have = have if resumed else 0
        advance(have)
        with part.open("ab" if resumed else "wb") as out:
            size = have
            # read1 returns data as soon as it arrives: nothing is lost if the connection is interrupted
            while chunk := response.raw.read1(CHUNK):
                size += len(chunk)
                if file.size and size > file.size:
                    raise Refused("the file is larger than in the lock", "broken")
                out.write(chunk)
                advance(len(chunk))
    return have


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# error of a request -> reason; the first matching type counts
REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    ((requests.Timeout, urllib3.exceptions.TimeoutError), "timed out"),
    (
        requests.exceptions.SSLError,
        "its certificate is not trusted: set PIP_CERT, or Acquire::https::CAInfo of apt, to the CA's file",
    ),
    (
        requests.exceptions.ProxyError,
        "the proxy does not answer or refuses: correct https_proxy, or Acquire::https::Proxy of apt",
    ),
    (requests.ConnectionError, "cannot connect"),
)


def refusal(err: requests.RequestException | urllib3.exceptions.HTTPError) -> Refused:
    """Translate the error of a failed request into a Refused."""
    if isinstance(err, requests.HTTPError) and err.response is not None:
        return Refused(f"the server returned status {err.response.status_code}", "broken")
    if isinstance(err, urllib3.exceptions.ProtocolError):
        return Refused("the connection was interrupted", "broken", again=True)
    return Refused(next((reason for kind, reason in REASONS if isinstance(err, kind)), str(err)), "silent")


def existing(path: Path) -> Path:
    """Return a path if it exists, else the nearest folder above it that does."""
    while not path.exists():
        path = path.parent
    return path
