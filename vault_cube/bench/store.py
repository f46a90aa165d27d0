"""The results folder: one JSON file per result, written atomically, and a lock that allows one benchmark at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from vault_cube.errors import VaultCubeError

ROOM = 4 << 20
"""Free bytes that a benchmark requires before it starts. A result is smaller than 100 kB."""

SUMMARY = "gpu_benchmark.json"
"""Name of the summary file in Salt's cache folder; the grain `gpu_benchmark` reads it."""


class Store:
    """The results folder, pillar `benchmark:results`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def exclusive(self, what: str) -> Iterator[None]:
        """Hold the lock on the results folder.

        what: name of the command, shown to others that try. Raises VaultCubeError if another process holds the lock.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / ".lock").open("a+")
        except OSError as err:
            raise VaultCubeError(
                f"{self.folder}: {err.strerror}; the results folder must be writable; on a box, run as root"
            ) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                raise VaultCubeError(
                    f"{self.folder}: {holder} is already measuring; two at once would disturb each other, "
                    "so wait until it has finished"
                ) from None
            handle.truncate(0)
            handle.write(f"{what}, process {os.getpid()},")
            handle.flush()
            yield

    def check_room(self) -> None:
        """Raise VaultCubeError if there is no space for a result."""
        space = os.statvfs(self.folder)
        if space.f_bavail * space.f_frsize < ROOM:
            raise VaultCubeError(
                f"{self.folder}: less than {ROOM >> 20} MiB are free; free some space, then run the command again"
            )

    def write(self, name: str, document: Mapping[str, object]) -> Path:
        """Write a result and return its file. Raises VaultCubeError if that fails; no partial file is left behind."""
        return write_whole(self.folder / f"{name}.json", document)

    def names(self) -> list[str]:
        """Return the names of all results, the oldest first."""
        return sorted(file.stem for file in self.folder.glob("benchmark-*.json"))

    def find(self, name: str) -> Path:
        """Return the file of a result.

        name: a result's name, `last`, `previous`, or a path that contains a slash. Raises VaultCubeError if there is no
        such result.
        """
        if "/" in name:
            return Path(name)
        if name in ("last", "previous"):
            back = {"last": 1, "previous": 2}[name]
            if len(self.names()) < back:
                raise VaultCubeError(f"{self.folder}: there is no {name} result; run `gpu.benchmark` to create one")
            name = self.names()[-back]
        file = self.folder / f"{name.removesuffix('.json')}.json"
        if not file.is_file():
            raise VaultCubeError(
                f"{file}: there is no such result; existing results: {', '.join(self.names()) or 'none'}"
            )
        return file


def write_whole(file: Path, document: Mapping[str, object]) -> Path:
    """Write a JSON file atomically: after a failure or a power cut the file is either the old one or the new one.

    Returns the file. Raises VaultCubeError if writing fails.
    """
    handle, part = -1, ""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "w") as out:
            json.dump(document, out, indent=1)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        Path(part).chmod(0o644)
        Path(part).rename(file)
    except OSError as err:
        if part:
            Path(part).unlink(missing_ok=True)
        raise VaultCubeError(f"{file}: {err.strerror}; the result was not saved") from None
    return file
