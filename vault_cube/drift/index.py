"""The index of file states that were already read, so that the default mode hashes only what was written since.

The kernel sets the change time of an inode on every write, and no program can set it back while the clock is right.
The index does not protect against root, who can change the clock or the index: `full` and a comparison from outside do.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vault_cube.drift.reading import content

NAME = "index"
FIRST = "vault-cube-drift-index-1"


class State(NamedTuple):
    """A regular file when it was read."""

    inode: int
    ctime: int
    """Change time, nanoseconds since 1970."""
    size: int
    sha256: str
    xattrs: str


def load(folder: Path, image: str, tops: tuple[str, ...] = ("",)) -> tuple[dict[str, State], str]:
    """Read the index of an image. image: the digest of its manifest. tops: beginnings of the paths that are read.

    Returns path → state, and why the index cannot be used, or an empty string. A missing index is no problem.
    """
    try:
        data = content(folder / NAME)
    except FileNotFoundError:
        return {}, ""
    except OSError as err:
        return {}, f"{folder / NAME}: {err.strerror}"
    try:
        first, _, rest = data.partition(b"\n")
        if first.decode().split(" ") != [FIRST, image, hashlib.sha256(rest).hexdigest()]:
            return {}, f"{folder / NAME}: damaged, or of another image"
        states, wanted = {}, tuple(os.fsencode(top) for top in tops)
        for row in rest.split(b"\0")[:-1]:
            inode, ctime, size, sha256, xattrs, path = row.split(b" ", 5)
            if path.startswith(wanted):
                state = State(int(inode), int(ctime), int(size), sha256.decode(), xattrs.decode())
                states[path.decode(errors="surrogateescape")] = state
    except ValueError:
        return {}, f"{folder / NAME}: damaged"
    return states, ""


def save(folder: Path, image: str, states: Mapping[str, State]) -> str:
    """Write the index atomically. Returns why it could not be written, or an empty string."""
    rows = (" ".join([*map(str, state), path]) + "\0" for path, state in states.items())
    rest = "".join(rows).encode(errors="surrogateescape")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{NAME}.")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(f"{FIRST} {image} {hashlib.sha256(rest).hexdigest()}\n".encode() + rest)
            Path(name).replace(folder / NAME)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as err:
        return f"{folder / NAME}: {err.strerror}: files that were written since are read again next time"
    return ""
