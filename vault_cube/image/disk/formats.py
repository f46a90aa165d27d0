"""Write a disk in the formats qcow2 and raw.zst. Chunks are compressed in parallel on all processors.

The files depend only on the content of the disk. A chunk that the previous image also has is copied from that image's
files after its SHA-256 is verified, so that damage to those files cannot reach a new image.
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
from typing import BinaryIO, NamedTuple, Protocol, TypeVar

import zstandard

from vault_cube.image.disk import qcow2
from vault_cube.image.progress import write_json

CHUNK = 8 << 20
"""Size of a chunk in bytes; one thread compresses it as a whole."""
NOTHING = bytes(CHUNK)
NOTHING_SHA256 = hashlib.sha256(NOTHING).hexdigest()
LEVEL = 3
"""Compression level of a raw.zst; zstd's default."""
Item = TypeVar("Item")
Result = TypeVar("Result")
Sizes = Sequence[int]
Runs = list[tuple[int, int]]
"""Ranges of a file: offset and size of each, in bytes."""
Piece = tuple[Runs, Sizes, str]
"""A chunk in a file: its ranges, the sizes of its sub-parts, and the digest of `Packed`."""


class Packed(NamedTuple):
    """A chunk of a disk, compressed for a format."""

    sizes: Sizes
    """Size of each sub-part in bytes (qcow2: cluster; raw.zst: frame)."""
    content: bytes
    sha256: str
    """Digest of content and sizes."""

    @classmethod
    def of(cls, sizes: Sizes, content: bytes) -> Packed:
        digest = hashlib.sha256(content)
        digest.update(str(list(sizes)).encode())
        return cls(sizes, content, digest.hexdigest())


class Writer(Protocol):
    """Writes compressed chunks to a file, in order."""

    def add(self, sizes: Sizes, content: bytes) -> Runs:
        """Append a chunk. Returns the ranges of the file that hold its content."""
        ...

    def close(self) -> None:
        """Complete the file."""
        ...


class Frames:
    """Writes a raw.zst: one frame per chunk, which any zstd decompresses as one file."""

    def __init__(self, out: BinaryIO, _size: int) -> None:
        self._out, self._end = out, 0

    def add(self, _sizes: Sizes, content: bytes) -> Runs:
        self._out.write(content)
        self._end += len(content)
        return [(self._end - len(content), len(content))]

    def close(self) -> None:
        """Do nothing; the file is complete after its last frame."""


def frame(chunk: bytes) -> tuple[Sizes, bytes]:
    """Compress a chunk into one zstd frame. Returns a list with the frame's size in bytes, and the frame."""
    packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(chunk)
    return [len(packed)], packed


class Form(NamedTuple):
    """The functions that write a file format."""

    pack: Callable[[bytes], tuple[Sizes, bytes]]
    """Compresses a chunk of the disk; thread-safe."""
    writer: Callable[[BinaryIO, int], Writer]
    """Makes a writer, given the open file and the size of the disk in bytes."""


FORMS = {"qcow2": Form(qcow2.pack, qcow2.Writer), "raw.zst": Form(frame, Frames)}


def made_by() -> str:
    """Return the compressor versions and the chunk size, which also determine the bytes of a file."""
    return f"zstandard {zstandard.__version__}, zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}, {CHUNK}"


@dataclass(frozen=True)
class Earlier:
    """The previous image in a format."""

    pieces: Mapping[str, Piece]
    """Its chunks, by the SHA-256 of the uncompressed chunk: ranges in the file, sizes, and the digest of `Packed`."""
    file: int | None
    """Descriptor of the open file; None if there is no such file."""

    def find(self, digest: str) -> Packed | None:
        """Return a compressed chunk from the file; None if the file does not have it or it is damaged."""
        if self.file is None:
            return None
        try:
            runs, sizes, sha256 = self.pieces[digest]
            packed = Packed.of(sizes, b"".join(os.pread(self.file, size, offset) for offset, size in runs))
        except (KeyError, OSError, OverflowError, TypeError, ValueError):
            return None
        return packed if packed.sha256 == sha256 else None


def make(disk: Path, files: Mapping[str, Path], earlier: Mapping[str, Path], notes: Path, log: Path) -> str:
    """Write a disk in several formats, reading it once. Returns the SHA-256 of the disk.

    files: format → the file to write. earlier: format → the previous image's file, which may be missing. notes: JSON
    index of the previous image's chunks, rewritten for the new files. log: receives progress.
    """
    known = _known(notes)
    with ExitStack() as stack:
        source = stack.enter_context(disk.open("rb")).fileno()
        progress = stack.enter_context(log.open("a"))
        size = os.fstat(source).st_size
        before = {form: Earlier(known.get(form, {}), _descriptor(stack, earlier.get(form))) for form in files}
        writers = {form: FORMS[form].writer(stack.enter_context(file.open("wb")), size) for form, file in files.items()}
        pieces: dict[str, dict[str, Piece]] = {form: {} for form in files}

        def packed(offset: int) -> tuple[bytes, str, dict[str, Packed]]:
            chunk, digest = _chunk(source, offset)
            return (
                chunk,
                digest,
                {form: before[form].find(digest) or Packed.of(*FORMS[form].pack(chunk)) for form in files},
            )

        whole, done = hashlib.sha256(), 0
        for chunk, digest, packed_by_form in _in_order(packed, range(0, size, CHUNK)):
            whole.update(chunk)
            for form, (sizes, content, sha256) in packed_by_form.items():
                pieces[form][digest] = (writers[form].add(sizes, content), sizes, sha256)
            done += len(chunk)
            print(f"packed {done >> 20} of {size >> 20} MiB", end="\r", file=progress, flush=True)
        for writer in writers.values():
            writer.close()
        print(file=progress)
    write_json(notes, {"by": made_by(), "pieces": pieces}, indent=None)
    return whole.hexdigest()


def _known(notes: Path) -> dict[str, dict[str, Piece]]:
    """Read the index of the previous image's chunks; empty if it is unreadable or another zstd compressed them."""
    try:
        index = json.loads(notes.read_text())
        return dict(index["pieces"]) if index["by"] == made_by() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _descriptor(stack: ExitStack, file: Path | None) -> int | None:
    try:
        return stack.enter_context(file.open("rb")).fileno() if file else None
    except FileNotFoundError:
        return None


def _chunk(disk: int, offset: int) -> tuple[bytes, str]:
    """Return a chunk of the disk and its SHA-256; holes are not read."""
    try:
        hole = os.lseek(disk, offset, os.SEEK_DATA) >= offset + CHUNK
    except OSError:
        hole = True  # no data up to the end of the file
    if hole and os.fstat(disk).st_size >= offset + CHUNK:
        return NOTHING, NOTHING_SHA256
    chunk = os.pread(disk, CHUNK, offset)
    return chunk, hashlib.sha256(chunk).hexdigest()


def _in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result of `work` for each item, in order. Runs on all processors, a limited number of items ahead."""
    ahead = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
