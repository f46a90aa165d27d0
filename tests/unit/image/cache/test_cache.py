"""The layer cache: whole or not there, verified by content, the longest unused goes first."""

import json
import os
import time

import pytest

from vault_cube.image.cache import layer_cache, tree_manifest

KEY = "a1" * 32


@pytest.fixture
def layers(tmp_path):
    return tmp_path / "layers"


@pytest.fixture
def kept(tmp_path, layers):
    """kept(key, name, size) puts a small tree into the cache."""

    def make(key=KEY, name="base", size=1000):
        work = tmp_path / f"work-{name}-{key[:4]}"
        tree = work / "tree"
        (tree / "etc").mkdir(parents=True)
        (tree / "etc/motd").write_text("x" * size)
        (tree / "link").symlink_to("etc/motd")
        os.link(tree / "etc/motd", tree / "twin")
        return layer_cache.keep(layers, key, tree, name, {"parent": "p"})

    return make


def test_what_is_kept_is_found_whole(kept, layers):
    entry = kept()
    found = layer_cache.find(layers, KEY)
    assert found == entry
    layer_cache.verify(found)
    assert (found.tree / "etc/motd").read_text() == "x" * 1000
    assert (found.meta["name"], found.meta["inputs"], found.meta["bytes"]) == ("base", {"parent": "p"}, 1000)
    assert found.manifest() == tree_manifest.entries(found.tree)


def test_another_key_finds_nothing_even_when_its_beginning_is_the_same(kept, layers):
    kept()
    assert layer_cache.find(layers, "b2" * 32) is None
    assert layer_cache.find(layers, KEY[:32] + "0" * 32) is None
    assert layer_cache.find(layers / "not-there", KEY) is None


DAMAGE = {
    "a flipped bit": (lambda tree: flip(tree / "etc/motd"), "etc/motd"),
    "a file that is gone": (lambda tree: (tree / "link").unlink(), "- link"),
    "a file too many": (lambda tree: (tree / "new").write_text(""), "+ new"),
    "another mode": (lambda tree: (tree / "etc/motd").chmod(0o600), "~ etc/motd: mode"),
    "another time": (lambda tree: os.utime(tree / "etc", (1, 1)), "~ etc: mtime"),
    "another target": (lambda tree: ((tree / "link").unlink(), (tree / "link").symlink_to("x")), "~ link: "),
    "a hard link that is a copy": (
        lambda tree: ((tree / "twin").unlink(), (tree / "twin").write_text("x" * 1000)), "~ twin: "),
    "a flipped bit in the manifest": (lambda tree: flip(tree.parent / "manifest"), ""),
    "a manifest that is cut off": (lambda tree: os.truncate(tree.parent / "manifest", 40), ""),
    "no manifest": (lambda tree: (tree.parent / "manifest").unlink(), "cannot be read"),
    "no tree": (lambda tree: tree.rename(tree.parent / "x"), "cannot be read"),
    "a digest of something else": (lambda tree: edit(tree, digest="0" * 64), "meta.json"),
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
def test_damage_is_found_named_and_dropped(kept, layers, damage):
    spoil, said = DAMAGE[damage]
    entry = kept()
    spoil(entry.tree)
    with pytest.raises(layer_cache.Damaged) as caught:
        layer_cache.verify(entry)
    message = str(caught.value)
    assert "cached layer base is damaged" in message
    assert said in message
    assert "\n" not in message
    assert layer_cache.find(layers, KEY) is None
    assert not entry.folder.exists()
    layer_cache.verify(kept(name="base2"))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"key": 1}', "\0"])
def test_an_entry_that_is_half_written_is_none(kept, layers, text):
    entry = kept()
    (entry.folder / "meta.json").write_text(text)
    assert layer_cache.find(layers, KEY) is None
    layer_cache.verify(kept(name="again"))


def test_a_removal_that_is_cut_off_leaves_no_entry(kept, layers, monkeypatch):
    """Killed while it removes: what is left does not look complete."""
    entry = kept()
    monkeypatch.setattr(layer_cache.shutil, "rmtree", lambda *_, **__: None)
    layer_cache.drop(entry)
    assert entry.folder.exists()
    assert layer_cache.find(layers, KEY) is None


def test_an_entry_that_another_run_has_made_meanwhile_stays(kept, layers):
    first = kept()
    inode = first.tree.stat().st_ino
    second = kept(name="late")
    assert second == first
    assert first.tree.stat().st_ino == inode
    assert first.meta["name"] == "base"


def aged(entry, hours):
    when = time.time() - hours * 3600
    os.utime(entry.folder / "meta.json", (when, when))


def test_the_longest_unused_go_first_and_only_as_many_as_needed(kept, layers):
    entries = {name: kept(f"{number}" * 64, name, 10_000) for number, name in enumerate(["a", "b", "c", "d"])}
    for hours, name in ((9, "c"), (7, "a"), (5, "b"), (3, "d")):
        aged(entries[name], hours)
    assert layer_cache.evict(layers, 25_000, []) == ["c", "a"]
    assert layer_cache.find(layers, "1" * 64)
    assert layer_cache.evict(layers, 25_000, []) == []


def test_what_is_asked_for_counts_as_used(kept, layers):
    for number, name in enumerate(["a", "b"]):
        aged(kept(f"{number}" * 64, name, 10_000), 9 - number)
    assert layer_cache.find(layers, "0" * 64)
    assert layer_cache.evict(layers, 15_000, []) == ["b"]


def test_what_is_wanted_or_in_use_never_goes(kept, layers):
    aged(kept("1" * 64, "wanted", 10_000), 9)
    kept("2" * 64, "used a moment ago", 10_000)
    assert layer_cache.evict(layers, 0, ["1" * 64]) == []


def test_what_is_no_entry_is_swept(kept, layers):
    kept()
    (layers / "half/tree").mkdir(parents=True)
    assert layer_cache.evict(layers, 10**9, []) == []
    assert [folder.name for folder in layers.iterdir()] == [KEY[:32]]


def decay(entry):
    """Another content that no write tells of, as a disk that forgets a bit would leave it."""
    flip(entry.tree / "etc/motd")
    layer_cache._note_read(entry, layer_cache._written(entry.tree))


def noted(entry, **values):
    file = entry.folder / "read.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_what_was_read_lately_is_not_read_again(kept, monkeypatch):
    entry = kept()
    monkeypatch.setattr(tree_manifest, "entries", lambda _: pytest.fail("it was read"))
    layer_cache.verify(entry)


@pytest.mark.parametrize(
    "later", [{"at": time.time() - layer_cache.READ_AGAIN_S - 1}, {"boot": "another"}, {"at": 1e12}]
)
def test_what_nobody_wrote_is_read_again_after_a_day_or_a_boot(kept, later):
    entry = kept()
    decay(entry)
    noted(entry, **later)
    with pytest.raises(layer_cache.Damaged, match=r"etc/motd: content"):
        layer_cache.verify(entry)


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_note_that_cannot_be_read_means_reading(kept, text):
    entry = kept()
    decay(entry)
    (entry.folder / "read.json").write_text(text)
    with pytest.raises(layer_cache.Damaged):
        layer_cache.verify(entry)


def test_reading_is_noted(kept, monkeypatch):
    entry = kept()
    (entry.folder / "read.json").unlink()
    layer_cache.verify(entry)
    monkeypatch.setattr(tree_manifest, "entries", lambda _: pytest.fail("it was read"))
    layer_cache.verify(entry)
