"""Read the output of the qcow2 writer with a reader that follows the format's specification, docs/interop/qcow2.txt.

tests/integration/test_disk.py reads it with qemu-img.
"""

import io
import random
import struct

import pytest
import zstandard

from vault_cube.image.disk import qcow2

CLUSTER = 1 << 16
CHANCE = random.Random(20261128)
TEXT = b"a line of a log, and another\n" * 10000


class Reader:
    """A qcow2 with compressed clusters: its disk, and the actual and recorded references to each cluster."""

    def __init__(self, content):
        self.content = content
        header = struct.unpack(">4sIQIIQIIQQIIQQQQIIB", content[:105])
        magic, version, backing, _, bits, self.size, crypt, first, at, counts, count_clusters, snapshots = header[:12]
        incompatible, _, _, order, length, compression = header[13:]
        assert (magic, version, backing, bits, crypt, snapshots, order) == (b"QFI\xfb", 3, 0, 16, 0, 0, 4)
        assert (incompatible, length, compression) == (8, 112, 1)
        assert len(content) % CLUSTER == 0
        self.used = [0] * (len(content) // CLUSTER)
        self.mark(0, 1)
        self.mark(at, first * 8)
        self.mark(counts, count_clusters * CLUSTER)
        tables = [offset & ((1 << 63) - 1) for offset in self.numbers(at, first)]
        for table in tables:
            self.mark(table, CLUSTER if table else 0)
        self.entries = [entry for table in tables for entry in (self.numbers(table, 8192) if table else [0] * 8192)]
        self.disk = b"".join(self.cluster(entry) for entry in self.entries)[: self.size]
        blocks = [offset for offset in self.numbers(counts, count_clusters * 8192) if offset]
        for block in blocks:
            self.mark(block, CLUSTER)
        self.counted = [
            number for block in blocks for number in struct.unpack(">32768H", content[block : block + CLUSTER])
        ]

    def numbers(self, at, count):
        return struct.unpack(f">{count}Q", self.content[at : at + 8 * count])

    def mark(self, start, size):
        for cluster in range(start // CLUSTER, (start + size - 1) // CLUSTER + 1 if size else start // CLUSTER):
            self.used[cluster] += 1

    def cluster(self, entry):
        if not entry:
            return bytes(CLUSTER)
        if entry >> 62 & 1:
            assert not entry >> 63
            start, sectors = entry & ((1 << 54) - 1), (entry >> 54 & 0xFF) + 1
            size = sectors * 512 - start % 512
            self.mark(start, size)
            return zstandard.ZstdDecompressor().decompressobj().decompress(self.content[start : start + size])
        assert entry >> 63
        start = entry & ((1 << 63) - 1)
        assert start % CLUSTER == 0
        self.mark(start, CLUSTER)
        return self.content[start : start + CLUSTER]


def written(disk, chunk=1 << 20):
    out = io.BytesIO()
    writer = qcow2.Writer(out, len(disk))
    runs = [writer.add(*qcow2.pack(disk[at : at + chunk])) for at in range(0, len(disk), chunk)]
    writer.close()
    return out.getvalue(), runs


DISKS = {
    "nothing": bytes(3 * CLUSTER),
    "one cluster": TEXT[:CLUSTER],
    "noise": CHANCE.randbytes(20 * CLUSTER),
    "text": TEXT,
    "all of it": b"".join(
        CHANCE.choice([bytes(CLUSTER), CHANCE.randbytes(CLUSTER), TEXT[number : number + CLUSTER]])
        for number in range(200)
    ),
    "an end within a cluster": TEXT[: 3 * CLUSTER] + CHANCE.randbytes(512),
    "two tables": bytes(513 << 20) + TEXT,
}


@pytest.mark.parametrize("name", DISKS)
def test_the_disk_is_read_back_and_all_refcounts_are_correct(name):
    content, _ = written(DISKS[name])
    read = Reader(content)
    assert read.size == len(DISKS[name])
    assert read.disk == DISKS[name]
    assert read.counted[: len(read.used)] == read.used
    assert not any(read.counted[len(read.used) :])


def test_the_returned_runs_hold_the_content_of_a_chunk():
    disk = DISKS["all of it"]
    content, runs = written(disk)
    for number, ranges in enumerate(runs):
        packed = qcow2.pack(disk[number << 20 : (number + 1) << 20])[1]
        assert b"".join(content[offset : offset + size] for offset, size in ranges) == packed


def test_an_empty_disk_takes_only_the_clusters_of_header_and_tables():
    assert len(written(bytes(64 << 20))[0]) == 4 * CLUSTER  # header, table of tables, refcounts and their table
