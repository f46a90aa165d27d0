"""Write a qcow2 file from front to back: clusters compressed with zstd, then the tables that map them.

Layout and field names follow QEMU's docs/interop/qcow2.txt, version 3. qemu-img compresses one cluster at a time if its
output must be reproducible; here, threads compress clusters in parallel and a writer appends them in order.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import BinaryIO

from zstandard import ZstdCompressor

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
ENTRIES = CLUSTER // 8
"""Number of 64-bit entries in a cluster of a table."""
REFCOUNTS = CLUSTER // 2
"""Number of 16-bit entries in a cluster of refcounts."""
SECTOR = 512
COPIED = 1 << 63
COMPRESSED = 1 << 62
SECTORS_SHIFT = 62 - (CLUSTER_BITS - 8)
"""Position of the bits that hold the number of additional sectors, in the L2 entry of a compressed cluster."""
INCOMPATIBLE_COMPRESSION_TYPE = 1 << 3
ZSTD = 1
LEVEL = 3
"""Compression level; the default of zstd and of qemu-img."""
HEADER_BYTES = 112
NOTHING = bytes(CLUSTER)


def pack(chunk: bytes) -> tuple[list[int], bytes]:
    """Compress the clusters of a chunk of the disk. Returns the size of each cluster, in bytes, and their content.

    A size of 0 stands for a cluster of zeros. A size of CLUSTER stands for an uncompressed cluster, because compression
    does not make it smaller; the uncompressed clusters are at the end of the content.
    """
    compressor = ZstdCompressor(level=LEVEL)
    sizes, small, whole = [], [], []
    for at in range(0, len(chunk), CLUSTER):
        cluster = chunk[at : at + CLUSTER]
        if cluster == NOTHING[: len(cluster)]:
            sizes.append(0)
            continue
        packed = compressor.compress(cluster.ljust(CLUSTER, b"\0"))
        if len(packed) < CLUSTER:
            sizes.append(len(packed))
            small.append(packed)
        else:
            sizes.append(CLUSTER)
            whole.append(cluster.ljust(CLUSTER, b"\0"))
    return sizes, b"".join(small + whole)


class Writer:
    """Writes a qcow2 file from compressed chunks, in order."""

    def __init__(self, out: BinaryIO, size: int) -> None:
        """Start a file. size: size of the disk, bytes."""
        self._out, self._size = out, size
        self._end = CLUSTER  # the first cluster holds the header, which is written last
        self._clusters = array("Q")
        self._references = array("H", [1])
        out.write(NOTHING)

    def add(self, sizes: Sequence[int], content: bytes) -> list[tuple[int, int]]:
        """Append the next chunk, as returned by `pack`. Returns offset and size, in bytes, of each run of content."""
        small = sum(size for size in sizes if size < CLUSTER)
        start, whole = self._end, len(content) - small
        place = _up(start + small) if whole else start + small
        runs = [(start, small), (place, whole)]
        self._out.write(content[:small])
        self._out.write(bytes(place - start - small))
        self._out.write(content[small:])
        self._end = place + whole
        for size in sizes:
            if size == 0:
                self._clusters.append(0)
            elif size == CLUSTER:
                self._clusters.append(COPIED | place)
                self._refer(place, size)
                place += size
            else:
                sectors = (start + size - 1) // SECTOR - start // SECTOR
                self._clusters.append(COMPRESSED | sectors << SECTORS_SHIFT | start)
                self._refer(start, size)
                start += size
        return [run for run in runs if run[1]]

    def close(self) -> None:
        """Write the tables and the header; the file is incomplete until then."""
        self._out.write(bytes(_up(self._end) - self._end))
        self._end = _up(self._end)
        directory = array("Q")
        for at in range(0, len(self._clusters), ENTRIES):
            table = self._clusters[at : at + ENTRIES]
            directory.append(COPIED | self._table(table) if any(table) else 0)
        first_level = self._table(directory)
        # the refcounts include their own clusters, so add blocks until all fit
        blocks = top = 0
        while blocks * REFCOUNTS < (clusters := self._end // CLUSTER + blocks + top):
            blocks = -(-clusters // REFCOUNTS)
            top = -(-blocks // ENTRIES)
        self._refer(self._end, (blocks + top) * CLUSTER)
        self._references.extend([0] * (blocks * REFCOUNTS - len(self._references)))
        self._out.write(_big_endian(self._references))
        counted = array("Q", range(self._end, self._end + blocks * CLUSTER, CLUSTER))
        self._end += blocks * CLUSTER
        self._out.write(_big_endian(counted).ljust(top * CLUSTER, b"\0"))
        header = struct.pack(
            ">4sIQIIQIIQQIIQQQQIIB7x",
            *(b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, self._size, 0),
            *(len(directory), first_level, self._end, top, 0, 0),
            *(INCOMPATIBLE_COMPRESSION_TYPE, 0, 0, 4, HEADER_BYTES, ZSTD),
        )
        self._out.seek(0)
        self._out.write(header)

    def _table(self, entries: array[int]) -> int:
        """Write a table, starting at a new cluster. Returns its offset."""
        at = self._end
        content = _big_endian(entries)
        self._out.write(content.ljust(_up(len(content)), b"\0"))
        self._end += _up(len(content))
        self._refer(at, self._end - at)
        return at

    def _refer(self, start: int, size: int) -> None:
        """Increment the refcount of each cluster that a range of bytes in the file touches."""
        first, last = start >> CLUSTER_BITS, (start + size - 1) >> CLUSTER_BITS
        if last >= len(self._references):
            self._references.extend([0] * (last + 1 - len(self._references)))
        for cluster in range(first, last + 1):
            self._references[cluster] += 1


def _up(offset: int) -> int:
    """Round an offset up to a multiple of CLUSTER."""
    return -(-offset // CLUSTER) * CLUSTER


def _big_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
