"""The store: every fetched file under its sha256, shared by all targets; what is not verified never gets in."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import requests
import urllib3

from vault_cube.errors import VaultCubeError
from vault_cube.image.progress import byte_bar

# a try that failed is ours to tell, once and in words
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

CHUNK = 1 << 18
CONNECTIONS = 6
CONNECT_S, SILENCE_S = 10, 20
"""seconds that a server may take to be there, and between two of its words"""
ATTEMPTS = 3
"""tries at one place, each going on where the one before was cut off"""


@dataclass(frozen=True)
class Wanted:
    """A file that a build needs: what it must be, and where it may be had, best place first."""

    sha256: str
    name: str
    size: int
    """bytes"""
    places: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """A wanted file that did not come, and why."""

    wanted: Wanted
    why: str
    gone: bool
    """True: somebody says that there is no such file, and nobody served a wrong or a broken one"""


class Unavailable(VaultCubeError):
    """Some of the wanted files cannot be had."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = failures
        first = failures[0]
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        super().__init__(f"{first.wanted.name}{more} cannot be fetched: {first.why}")

    @property
    def gone(self) -> bool:
        """Nobody serves any of them any more: resolving anew can help, waiting cannot."""
        return all(failure.gone for failure in self.failures)


class Refused(Exception):
    """A place gives no file, or another one.

    kind: `gone` (it says that it has none), `broken` (what came is wrong or cut off) or `silent` (it cannot be asked).
    again: a further try at the same place may go better.
    """

    def __init__(self, why: str, kind: str, *, again: bool = False) -> None:
        self.kind, self.again = kind, again
        super().__init__(why)


class Stop:
    """Ends the reads of all threads at once, also of those that wait for a server that says nothing."""

    def __init__(self) -> None:
        self.wanted = False
        self._reading: set[Any] = set()
        self._lock = threading.Lock()

    @contextmanager
    def reads(self, answer: Any) -> Iterator[None]:
        """Register an answer while it is read."""
        with self._lock:
            self._reading.add(answer)
        try:
            if self.wanted:
                raise Refused("stopped", "silent")
            yield
        finally:
            with self._lock:
                self._reading.discard(answer)

    def now(self) -> None:
        self.wanted = True
        with self._lock:
            for answer in self._reading:
                answer.shutdown()


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

    def add(self, data: bytes) -> str:
        """Take bytes that somebody has judged good. Returns their sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        part = self.root / "part" / f"{sha256}.{os.getpid()}"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.chmod(0o444)
        self.path(sha256).parent.mkdir(parents=True, exist_ok=True)
        part.replace(self.path(sha256))
        return sha256

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
        """Lay files under their names into a folder, as hard links where that is possible: (sha256, name).

        Each is read and verified on its way.
        """
        folder.mkdir(parents=True, exist_ok=True)

        def one(pair: tuple[str, str]) -> None:
            stored = self.verified(*pair)
            try:
                os.link(stored, folder / pair[1])
            except OSError as err:
                if err.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                    raise
                shutil.copyfile(stored, folder / pair[1])

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
        (self.root / "part").mkdir(parents=True, exist_ok=True)
        session = requests.Session()
        session.proxies.update(_apt_proxies())
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=2)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        stop = Stop()
        failures: list[Failure] = []
        with byte_bar(title, total) as advance, ThreadPoolExecutor(CONNECTIONS) as pool:
            jobs = [pool.submit(self._bring, session, file, advance, stop) for file in missing]
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
            # what is broken comes first: it is the reason when only a part is gone
            raise Unavailable(sorted(failures, key=lambda failure: (failure.gone, failure.wanted.name)))
        return sum(self.path(file.sha256).stat().st_size for file in missing)

    def _bring(
        self, session: requests.Session, file: Wanted, advance: Callable[[int], None], stop: Stop
    ) -> Failure | None:
        """Fetch one file from the first place that has it. Returns why it could not be had, or None."""
        reasons: list[tuple[str, Refused]] = []
        for place in file.places:
            for _ in range(ATTEMPTS):
                try:
                    self._download(session, place, file, advance, stop)
                except Refused as err:
                    refused = err
                except (requests.RequestException, urllib3.exceptions.HTTPError) as err:
                    refused = _refused(err)
                except OSError as err:
                    # this machine's doing: no other place helps
                    raise VaultCubeError(f"{err.filename or self.root}: {err.strerror or err}") from None
                else:
                    return None
                if not refused.again or stop.wanted:
                    break
            reasons.append((place, refused))
        if not reasons:
            return Failure(file, "no place is known that has it", gone=True)
        kinds = {refused.kind for _, refused in reasons}
        # what came broken says more than what did not come at all
        place, told = min(reasons, key=lambda reason: ("broken", "gone", "silent").index(reason[1].kind))
        return Failure(file, f"{place}: {told}", gone="gone" in kinds and "broken" not in kinds)

    def _download(
        self, session: requests.Session, place: str, file: Wanted, advance: Callable[[int], None], stop: Stop
    ) -> None:
        """Fetch a file from one place, going on where an earlier try was cut off. Raises Refused."""
        # named after the content, so that the next run goes on, too
        part = self.root / "part" / file.sha256
        have = part.stat().st_size if part.exists() else 0
        if urlparse(place).scheme == "file":
            local = Path(unquote(urlparse(place).path))
            if not local.is_file():
                raise Refused("no such file", "gone")
            shutil.copyfile(local, part)
            advance(part.stat().st_size)
            have = 0
        else:
            # the bytes as they are: nothing is to be packed for the way
            asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
            with (
                session.get(place, stream=True, timeout=(CONNECT_S, SILENCE_S), headers=asked) as answer,
                stop.reads(answer.raw),
            ):
                if answer.status_code in (404, 410):
                    raise Refused(f"the server answers {answer.status_code}", "gone")
                if answer.status_code == 416:
                    part.unlink()
                    raise Refused("the server answers 416", "broken", again=True)
                answer.raise_for_status()
                resumed = answer.status_code == 206
                have = have if resumed else 0
                advance(have)
                with part.open("ab" if resumed else "wb") as out:
                    size = have
                    # read1 gives what has come: nothing is lost when the connection is cut
                    while chunk := answer.raw.read1(CHUNK):
                        size += len(chunk)
                        if file.size and size > file.size:
                            raise Refused("it has more bytes than the lock says", "broken")
                        out.write(chunk)
                        advance(len(chunk))
        size = part.stat().st_size
        if size < file.size:
            raise Refused(f"only {size} of {file.size} bytes came", "broken", again=True)
        if sha256_of(part) != file.sha256:
            part.unlink()
            advance(-size)
            # the part that was there before may be what is wrong
            raise Refused("its sha256 is not the lock's", "broken", again=bool(have))
        part.chmod(0o444)
        target = self.path(file.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _refused(err: requests.RequestException | urllib3.exceptions.HTTPError) -> Refused:
    """What a failed request means, in words for a person."""
    if isinstance(err, requests.HTTPError) and err.response is not None:
        return Refused(f"the server answers {err.response.status_code}", "broken")
    if isinstance(err, urllib3.exceptions.ProtocolError):
        return Refused("the connection was cut", "broken", again=True)
    if isinstance(err, requests.Timeout | urllib3.exceptions.TimeoutError):
        return Refused("no answer in time", "silent")
    if isinstance(err, requests.ConnectionError):
        return Refused("cannot connect", "silent")
    return Refused(str(err), "silent")


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
