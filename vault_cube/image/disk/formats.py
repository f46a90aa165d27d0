"""The forms of a disk that are shipped: qcow2 and raw.zst, packed piece by piece on all processors.

A form follows from the disk's bytes alone. A piece that the last image had, too, is copied from its files: what was
packed is held against its sha256 first, so that nothing which happened to those files reaches a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

import zstandard

from vault_cube.image.disk import qcow2
from vault_cube.image.progress import write_json

PIECE = 8 << 20
"""bytes of the disk that are packed together, by one thread"""
NOTHING = bytes(PIECE)
NOTHING_SHA256 = hashlib.sha256(NOTHING).hexdigest()
LEVEL = 3
"""zstd's own"""
Item = TypeVar("Item")
Result = TypeVar("Result")
Sizes = Sequence[int]
Runs = list[tuple[int, int]]
"""where something lies in a file: offset and bytes of each run"""


class Packed(NamedTuple):
    """A piece of a disk as a form has it."""

    sizes: Sizes
    """bytes of each of its parts; what a part is, the form knows"""
    content: bytes
    sha256: str
    """of both"""

    @classmethod
    def of(cls, sizes: Sizes, content: bytes) -> Packed:
        digest = hashlib.sha256(content)
        digest.update(str(list(sizes)).encode())
        return cls(sizes, content, digest.hexdigest())


class Writer(Protocol):
    """Lays packed pieces down in a file, in order."""

    def add(self, sizes: Sizes, content: bytes) -> Runs: ...

    def close(self) -> None: ...


class Frames:
    """A raw.zst: a frame a piece, which any zstd reads as one file."""

    def __init__(self, out: BinaryIO, _size: int) -> None:
        self._out, self._end = out, 0

    def add(self, _sizes: Sizes, content: bytes) -> Runs:
        self._out.write(content)
        self._end += len(content)
        return [(self._end - len(content), len(content))]

    def close(self) -> None:
        """The last frame is the end."""


def frame(piece: bytes) -> tuple[Sizes, bytes]:
    """Compress a piece into one frame. Returns its size, in a list, and the frame."""
    packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(piece)
    return [len(packed)], packed


class Form(NamedTuple):
    """A kind of file."""

    pack: Callable[[bytes], tuple[Sizes, bytes]]
    """a piece of the disk; by any thread"""
    writer: Callable[[BinaryIO, int], Writer]
    """for a file, and the bytes of the disk"""


FORMS = {"qcow2": Form(qcow2.pack, qcow2.Writer), "raw.zst": Form(frame, Frames)}


def made_by() -> str:
    """What else the bytes of a form depend on."""
    return f"zstandard {zstandard.__version__}, zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}, {PIECE}"


@dataclass(frozen=True)
class Earlier:
    """The last image's file of a form."""

    pieces: Mapping[str, tuple[Runs, Sizes, str]]
    """by the sha256 of a piece: where it lies, its sizes, and the sha256 of the two"""
    file: int | None
    """its descriptor; None: there is no such file"""

    def find(self, digest: str) -> Packed | None:
        """A piece as it was packed; None when it is not there, or not what it was."""
        if self.file is None:
            return None
        try:
            runs, sizes, sha256 = self.pieces[digest]
            found = Packed.of(sizes, b"".join(os.pread(self.file, size, offset) for offset, size in runs))
        except (KeyError, OSError, OverflowError, TypeError, ValueError):
            return None
        return found if found.sha256 == sha256 else None


def make(disk: Path, files: Mapping[str, Path], earlier: Mapping[str, Path], notes: Path, log: Path) -> str:
    """Pack a disk. Returns the sha256 of the disk itself, which is read once for all of it.

    files: form → the file to write. earlier: form → the last image's file, which may be missing. notes: what pieces
    that had; tells afterwards what the new files have. log: is told how far it is.
    """
    known = _known(notes)
    with ExitStack() as stack:
        source = stack.enter_context(disk.open("rb")).fileno()
        said = stack.enter_context(log.open("a"))
        size = os.fstat(source).st_size
        before = {form: Earlier(known.get(form, {}), _descriptor(stack, earlier.get(form))) for form in files}
        writers = {form: FORMS[form].writer(stack.enter_context(file.open("wb")), size) for form, file in files.items()}
        pieces: dict[str, dict[str, tuple[Runs, Sizes, str]]] = {form: {} for form in files}

        def packed(offset: int) -> tuple[bytes, str, dict[str, Packed]]:
            piece, digest = _piece(source, offset)
            return (
                piece,
                digest,
                {form: before[form].find(digest) or Packed.of(*FORMS[form].pack(piece)) for form in files},
            )

        whole, done = hashlib.sha256(), 0
        for piece, digest, found in _in_order(packed, range(0, size, PIECE)):
            whole.update(piece)
            for form, (sizes, content, sha256) in found.items():
                pieces[form][digest] = (writers[form].add(sizes, content), sizes, sha256)
            done += len(piece)
            print(f"packed {done >> 20} of {size >> 20} MiB", end="\r", file=said, flush=True)
        for writer in writers.values():
            writer.close()
        print(file=said)
    write_json(notes, {"by": made_by(), "pieces": pieces}, indent=None)
    return whole.hexdigest()


def _known(notes: Path) -> dict[str, Any]:
    """What pieces the last image's files have; nothing where nobody can tell, or where another zstd packed them."""
    try:
        found = json.loads(notes.read_text())
        return dict(found["pieces"]) if found["by"] == made_by() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _descriptor(stack: ExitStack, file: Path | None) -> int | None:
    try:
        return stack.enter_context(file.open("rb")).fileno() if file else None
    except FileNotFoundError:
        return None


def _piece(disk: int, offset: int) -> tuple[bytes, str]:
    """A piece of the disk and its sha256; of a hole nothing is read."""
    try:
        hole = os.lseek(disk, offset, os.SEEK_DATA) >= offset + PIECE
    except OSError:
        hole = True  # up to the end
    if hole and os.fstat(disk).st_size >= offset + PIECE:
        return NOTHING, NOTHING_SHA256
    piece = os.pread(disk, PIECE, offset)
    return piece, hashlib.sha256(piece).hexdigest()


def _in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `work` makes of each item, in order, on all processors and not far ahead of who takes it."""
    ahead = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
