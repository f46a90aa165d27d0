"""The layer cache: entries are complete or absent, verified, and evicted least recently used first."""

import json
import os
import time

import pytest

from vault_cube import tree_manifest
from vault_cube.image.cache import layer_cache

KEY = "a1" * 32


@pytest.fixture
def layers(tmp_path):
    return tmp_path / "layers"


@pytest.fixture
def keep(tmp_path, layers):
    """keep(key, name, size) adds a small tree to the cache."""

    def make(key=KEY, name="base", size=1000):
        work = tmp_path / f"work-{name}-{key[:4]}"
        tree = work / "tree"
        (tree / "etc").mkdir(parents=True)
        (tree / "etc/motd").write_text("x" * size)
        (tree / "link").symlink_to("etc/motd")
        os.link(tree / "etc/motd", tree / "twin")
        return layer_cache.keep(layers, key, tree, name, {"parent": "p"})

    return make


def test_an_added_entry_is_found_and_complete(keep, layers):
    added = keep()
    entry = layer_cache.find(layers, KEY)
    assert entry == added
    layer_cache.verify(entry)
    assert (entry.tree / "etc/motd").read_text() == "x" * 1000
    assert (entry.meta["name"], entry.meta["inputs"], entry.meta["bytes"]) == ("base", {"parent": "p"}, 1000)
    assert entry.manifest() == tree_manifest.entries(entry.tree)


def test_another_key_is_not_found_even_with_the_same_prefix(keep, layers):
    keep()
    assert layer_cache.find(layers, "b2" * 32) is None
    assert layer_cache.find(layers, KEY[:32] + "0" * 32) is None
    assert layer_cache.find(layers / "not-there", KEY) is None


DAMAGE = {
    "a flipped bit": (lambda tree: flip(tree / "etc/motd"), "etc/motd"),
    "a missing file": (lambda tree: (tree / "link").unlink(), "- link"),
    "an additional file": (lambda tree: (tree / "new").write_text(""), "+ new"),
    "a different mode": (lambda tree: (tree / "etc/motd").chmod(0o600), "~ etc/motd: mode"),
    "a different modification time": (lambda tree: os.utime(tree / "etc", (1, 1)), "~ etc: mtime"),
    "a different link target": (lambda tree: ((tree / "link").unlink(), (tree / "link").symlink_to("x")), "~ link: "),
    "a copy in place of a hard link": (
        lambda tree: ((tree / "twin").unlink(), (tree / "twin").write_text("x" * 1000)), "~ twin: "),
    "a flipped bit in the manifest": (lambda tree: flip(tree.parent / "manifest"), ""),
    "a truncated manifest": (lambda tree: os.truncate(tree.parent / "manifest", 40), ""),
    "no manifest": (lambda tree: (tree.parent / "manifest").unlink(), "cannot be read"),
    "no tree": (lambda tree: tree.rename(tree.parent / "x"), "cannot be read"),
    "a wrong digest": (lambda tree: edit(tree, digest="0" * 64), "meta.json"),
    "no digest": (lambda tree: edit(tree, digest=None), "meta.json"),
}  # fmt: skip


def flip(file):
    status = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def edit(tree, **values):
    meta = json.loads((tree.parent / "meta.json").read_text())
    (tree.parent / "meta.json").write_text(json.dumps({**meta, **values}))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_reported_and_removed(keep, layers, damage):
    spoil, difference = DAMAGE[damage]
    entry = keep()
    spoil(entry.tree)
    with pytest.raises(layer_cache.Damaged) as caught:
        layer_cache.verify(entry)
    message = str(caught.value)
    assert "cached layer base is damaged" in message
    assert difference in message
    assert "\n" not in message
    assert layer_cache.find(layers, KEY) is None
    assert not entry.folder.exists()
    layer_cache.verify(keep(name="base2"))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"key": 1}', "\0"])
def test_an_entry_with_invalid_metadata_is_not_found(keep, layers, text):
    entry = keep()
    (entry.folder / "meta.json").write_text(text)
    assert layer_cache.find(layers, KEY) is None
    layer_cache.verify(keep(name="again"))


def test_an_interrupted_removal_leaves_no_entry(keep, layers, monkeypatch):
    """If the process is killed, the rest of the entry does not count as complete."""
    entry = keep()
    monkeypatch.setattr(layer_cache.shutil, "rmtree", lambda *_, **__: None)
    layer_cache.drop(entry)
    assert entry.folder.exists()
    assert layer_cache.find(layers, KEY) is None


def test_an_entry_that_another_run_added_first_stays(keep, layers):
    first = keep()
    inode = first.tree.stat().st_ino
    second = keep(name="late")
    assert second == first
    assert first.tree.stat().st_ino == inode
    assert first.meta["name"] == "base"


def aged(entry, hours):
    when = time.time() - hours * 3600
    os.utime(entry.folder / "meta.json", (when, when))


def test_the_least_recently_used_entries_are_evicted_and_no_more_than_needed(keep, layers):
    entries = {name: keep(f"{number}" * 64, name, 10_000) for number, name in enumerate(["a", "b", "c", "d"])}
    for hours, name in ((9, "c"), (7, "a"), (5, "b"), (3, "d")):
        aged(entries[name], hours)
    assert layer_cache.evict(layers, 25_000, []) == ["c", "a"]
    assert layer_cache.find(layers, "1" * 64)
    assert layer_cache.evict(layers, 25_000, []) == []


def test_finding_an_entry_counts_as_use(keep, layers):
    for number, name in enumerate(["a", "b"]):
        aged(keep(f"{number}" * 64, name, 10_000), 9 - number)
    assert layer_cache.find(layers, "0" * 64)
    assert layer_cache.evict(layers, 15_000, []) == ["b"]


def test_entries_to_keep_or_in_use_are_never_evicted(keep, layers):
    aged(keep("1" * 64, "to keep", 10_000), 9)
    keep("2" * 64, "used a moment ago", 10_000)
    assert layer_cache.evict(layers, 0, ["1" * 64]) == []


def test_an_incomplete_entry_is_removed(keep, layers):
    keep()
    (layers / "half/tree").mkdir(parents=True)
    assert layer_cache.evict(layers, 10**9, []) == []
    assert [folder.name for folder in layers.iterdir()] == [KEY[:32]]


def decay(entry):
    """Change a file without a trace in the recorded state, as bit rot on a disk would."""
    flip(entry.tree / "etc/motd")
    layer_cache._note_read(entry, layer_cache._written(entry.tree))


def set_record(entry, **values):
    file = entry.folder / "read.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_recently_verified_entry_is_not_read_again(keep, monkeypatch):
    entry = keep()
    monkeypatch.setattr(tree_manifest, "entries", lambda _: pytest.fail("it was read"))
    layer_cache.verify(entry)


@pytest.mark.parametrize(
    "later", [{"at": time.time() - layer_cache.READ_AGAIN_S - 1}, {"boot": "another"}, {"at": 1e12}]
)
def test_an_unchanged_entry_is_read_again_after_a_day_or_a_boot(keep, later):
    entry = keep()
    decay(entry)
    set_record(entry, **later)
    with pytest.raises(layer_cache.Damaged, match=r"etc/motd: content"):
        layer_cache.verify(entry)


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_an_invalid_record_means_that_the_entry_is_read(keep, text):
    entry = keep()
    decay(entry)
    (entry.folder / "read.json").write_text(text)
    with pytest.raises(layer_cache.Damaged):
        layer_cache.verify(entry)


def test_a_verification_is_recorded(keep, monkeypatch):
    entry = keep()
    (entry.folder / "read.json").unlink()
    layer_cache.verify(entry)
    monkeypatch.setattr(tree_manifest, "entries", lambda _: pytest.fail("it was read"))
    layer_cache.verify(entry)
