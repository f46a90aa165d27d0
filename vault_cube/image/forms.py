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
from typing import Any, BinaryIO, Protocol, TypeVar

import zstandard

from vault_cube.image import qcow2
from vault_cube.image.progress import write_json

PIECE = 8 << 20
"""bytes of the disk that are packed together, by one thread"""
NOTHING = bytes(PIECE)
NOTHING_SHA256 = hashlib.sha256(NOTHING).hexdigest()
LEVEL = 3
"""zstd's own; 19 packs 8 % smaller in thirty times the time"""
Item = TypeVar("Item")
Result = TypeVar("Result")
Sizes = Sequence[int]
Runs = list[tuple[int, int]]
"""where something lies in a file: offset and bytes of each run"""


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
        pass


def frame(piece: bytes) -> tuple[list[int], bytes]:
    """Compress a piece into one frame. Returns its size, in a list, and the frame."""
    packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(piece)
    return [len(packed)], packed


FORMS: Mapping[str, tuple[Callable[[bytes], tuple[list[int], bytes]], Callable[[BinaryIO, int], Writer]]] = {
    "qcow2": (qcow2.pack, qcow2.Writer),
    "raw.zst": (frame, Frames),
}
"""how a form packs a piece, and how it is written"""


def made_by() -> str:
    """What else the bytes of a form depend on."""
    return f"zstandard {zstandard.__version__}, zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}, {PIECE}"


@dataclass(frozen=True)
class Kept:
    """An earlier file of a form."""

    pieces: Mapping[str, tuple[Runs, list[int], str]]
    """by the sha256 of a piece: where it lies, its sizes, and the sha256 of what lies there"""
    file: int | None
    """the file's descriptor"""

    def find(self, digest: str) -> tuple[Sizes, bytes, str] | None:
        """A piece as it was packed, and the sha256 of that; None when it is not there, or not what it was."""
        if digest not in self.pieces or self.file is None:
            return None
        runs, sizes, wanted = self.pieces[digest]
        content = b"".join(os.pread(self.file, size, offset) for offset, size in runs)
        return (sizes, content, wanted) if hashlib.sha256(content).hexdigest() == wanted else None


def make(disk: Path, files: Mapping[str, Path], earlier: Mapping[str, Path], notes: Path) -> str:
    """Pack a disk. Returns the sha256 of the disk itself, which is read once for all of it.

    files: form → the file to write. earlier: form → the last image's file, which may be missing. notes: what pieces
    that had; tells afterwards what these files have.
    """
    known = _known(notes)
    with ExitStack() as stack, disk.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        kept = {form: Kept(known.get(form, {}), _descriptor(stack, earlier.get(form))) for form in files}
        writers = {form: FORMS[form][1](stack.enter_context(file.open("wb")), size) for form, file in files.items()}
        pieces: dict[str, dict[str, Any]] = {form: {} for form in files}

        def packed(offset: int) -> tuple[bytes, str, dict[str, tuple[Sizes, bytes, str]]]:
            piece, digest = _piece(source.fileno(), offset)
            found = {}
            for form in files:
                found[form] = kept[form].find(digest) or _checked(*FORMS[form][0](piece))
            return piece, digest, found

        whole = hashlib.sha256()
        for piece, digest, found in _in_order(packed, range(0, size, PIECE)):
            whole.update(piece)
            for form, (sizes, content, check) in found.items():
                pieces[form][digest] = (writers[form].add(sizes, content), sizes, check)
        for writer in writers.values():
            writer.close()
    write_json(notes, {"by": made_by(), "pieces": pieces})
    return whole.hexdigest()


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


def _checked(sizes: Sizes, content: bytes) -> tuple[Sizes, bytes, str]:
    return sizes, content, hashlib.sha256(content).hexdigest()


def _known(notes: Path) -> dict[str, Any]:
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
