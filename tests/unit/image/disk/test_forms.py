"""The files of an image depend only on the disk's content, even if chunks are copied from the previous image."""

import hashlib
import json
import random

import pytest
import zstandard

from vault_cube.image.disk import formats, qcow2

CHANCE = random.Random(20261128)
CHUNKS = 5


@pytest.fixture
def disk(tmp_path):
    """A disk of five chunks and seven bytes: noise, text, a hole, written zeros, text."""
    file = tmp_path / "disk.raw"
    text = b"".join(b"%d bottles\n" % number for number in range(700_000))[: formats.CHUNK]
    with file.open("wb") as out:
        out.write(CHANCE.randbytes(formats.CHUNK))
        out.write(text)
        out.seek(formats.CHUNK, 1)
        out.write(bytes(formats.CHUNK))
        out.write(text[::-1])
        out.write(b"the end")
    return file


@pytest.fixture
def packs(monkeypatch):
    """The number of compressed chunks by format."""
    counted = dict.fromkeys(formats.FORMS, 0)

    def counting(name, form):
        def pack(chunk):
            counted[name] += 1
            return form.pack(chunk)

        return form._replace(pack=pack)

    monkeypatch.setattr(formats, "FORMS", {name: counting(name, form) for name, form in formats.FORMS.items()})
    return counted


@pytest.fixture
def make(tmp_path):
    """make(disk, name, earlier) writes a disk in all formats. Returns the disk's SHA-256 and the bytes of each file."""

    def call(disk, name, earlier=None, notes="notes.json"):
        files = {form: tmp_path / f"{name}.{form}" for form in ("qcow2", "raw.zst")}
        last = {form: tmp_path / f"{earlier}.{form}" for form in files} if earlier else {}
        digest = formats.make(disk, files, last, tmp_path / notes, tmp_path / "log")
        return digest, {form: file.read_bytes() for form, file in files.items()}

    return call


def change(disk, offset, content=b"changed"):
    with disk.open("r+b") as out:
        out.seek(offset)
        out.write(content)


def test_a_raw_zst_decompresses_to_the_disk(disk, make):
    digest, files = make(disk, "one")
    assert digest == hashlib.sha256(disk.read_bytes()).hexdigest()
    with zstandard.ZstdDecompressor().stream_reader(files["raw.zst"], read_across_frames=True) as reader:
        assert reader.read() == disk.read_bytes()


def test_only_changed_chunks_are_compressed_and_the_files_equal_those_of_a_full_run(disk, make, packs):
    make(disk, "one")
    assert packs == {"qcow2": CHUNKS + 1, "raw.zst": CHUNKS + 1}
    change(disk, formats.CHUNK + 1000)
    change(disk, 4 * formats.CHUNK, bytes(qcow2.CLUSTER))
    packs.update(dict.fromkeys(packs, 0))
    changed = make(disk, "two", "one")
    assert packs == {"qcow2": 2, "raw.zst": 2}
    assert changed == make(disk, "three", notes="none.json")
    # again, from files that were themselves partly copied
    packs.update(dict.fromkeys(packs, 0))
    assert make(disk, "four", "two", notes="notes.json") == changed
    assert packs == {"qcow2": 0, "raw.zst": 0}


def test_a_flipped_bit_in_the_previous_image_does_not_reach_the_new_one(disk, make, packs, tmp_path):
    wanted = make(disk, "one")
    for form, offset in (("qcow2", 3 << 20), ("raw.zst", 5 << 20)):
        file = tmp_path / f"one.{form}"
        change(file, offset, bytes([file.read_bytes()[offset] ^ 1]))
    packs.update(dict.fromkeys(packs, 0))
    assert make(disk, "two", "one") == wanted
    assert packs == {"qcow2": 1, "raw.zst": 1}


@pytest.mark.parametrize(
    "damage",
    [
        lambda notes: "",
        lambda notes: "[]",
        lambda notes: json.dumps(notes | {"pieces": 3}),
        lambda notes: json.dumps(notes | {"pieces": {"qcow2": [1, 2], "raw.zst": None}}),
        lambda notes: json.dumps(notes | {"pieces": {form: {key: [[[-1, 5]], [5], "x"] for key in chunks}
                                                     for form, chunks in notes["pieces"].items()}}),
        lambda notes: json.dumps(notes | {"pieces": {form: {key: [runs, [*sizes[:-1], sizes[-1] + 1], sha256]
                                                            for key, (runs, sizes, sha256) in chunks.items()}
                                                     for form, chunks in notes["pieces"].items()}}),
        lambda notes: json.dumps(notes | {"by": "another zstd"}),
    ],
)  # fmt: skip
def test_a_damaged_index_makes_all_chunks_compressed_again(disk, make, packs, tmp_path, damage):
    wanted = make(disk, "one")
    notes = tmp_path / "notes.json"
    notes.write_text(damage(json.loads(notes.read_text())))
    packs.update(dict.fromkeys(packs, 0))
    assert make(disk, "two", "one") == wanted
    assert packs == {"qcow2": CHUNKS + 1, "raw.zst": CHUNKS + 1}


def test_missing_or_empty_files_of_the_previous_image_do_not_matter(disk, make, tmp_path):
    wanted = make(disk, "one")
    (tmp_path / "one.qcow2").unlink()
    (tmp_path / "one.raw.zst").write_bytes(b"")
    assert make(disk, "two", "one") == wanted


def test_a_format_alone_gives_the_same_file(disk, tmp_path, make):
    _, both = make(disk, "one")
    formats.make(disk, {"raw.zst": tmp_path / "alone"}, {}, tmp_path / "own.json", tmp_path / "log")
    assert (tmp_path / "alone").read_bytes() == both["raw.zst"]
