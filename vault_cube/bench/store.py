"""Where results are kept: one JSON file each, written whole or not at all; one benchmark at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vault_cube.errors import VaultCubeError

ROOM = 4 << 20
"""A result is below 100 kB; a machine that has not 4 MiB left is told so before an hour is measured."""

SUMMARY = "gpu_benchmark.json"


class Store:
    """The folder of the pillar's `benchmark:results`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def exclusive(self, what: str) -> Iterator[None]:
        """Be the only one that measures here. Raises VaultCubeError when somebody else does."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / ".lock").open("a+")
        except OSError as err:
            raise VaultCubeError(
                f"{self.folder}: {err.strerror}; results need a folder to write to, as root on a box"
            ) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                raise VaultCubeError(
                    f"{self.folder}: {holder} is measuring here; two at once would measure each other"
                ) from None
            handle.truncate(0)
            handle.write(f"{what}, process {os.getpid()},")
            handle.flush()
            yield

    def check_room(self) -> None:
        """Raise VaultCubeError when there is no room for a result."""
        room = os.statvfs(self.folder)
        if room.f_bavail * room.f_frsize < ROOM:
            raise VaultCubeError(f"{self.folder}: less than {ROOM >> 20} MiB are free; make room, then measure")

    def write(self, name: str, document: dict[str, Any]) -> Path:
        """Keep a result. Raises VaultCubeError when the disk refuses it; no part of it is left then."""
        return write_whole(self.folder / f"{name}.json", document)

    def names(self) -> list[str]:
        """All results, the oldest first."""
        return sorted(file.stem for file in self.folder.glob("benchmark-*.json"))

    def find(self, name: str) -> Path:
        """The file of a result: its name, `last`, `previous`, or a path. Raises VaultCubeError when there is none."""
        if "/" in name:
            return Path(name)
        if name in ("last", "previous"):
            back = {"last": 1, "previous": 2}[name]
            if len(self.names()) < back:
                raise VaultCubeError(f"{self.folder}: there is no {name} result; `gpu.benchmark` makes one")
            name = self.names()[-back]
        file = self.folder / f"{name.removesuffix('.json')}.json"
        if not file.is_file():
            raise VaultCubeError(f"{file}: there is no such result; there are {', '.join(self.names()) or 'none'}")
        return file


def write_whole(file: Path, document: dict[str, Any]) -> Path:
    """Write a JSON file so that it is either the old one or all of the new one, also after a power cut.

    Raises VaultCubeError.
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
        raise VaultCubeError(f"{file}: {err.strerror}; the result was not kept") from None
    return file
