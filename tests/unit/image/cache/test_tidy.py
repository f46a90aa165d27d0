"""Eviction from layers and store, and `make clean-cache`, on folders of a few bytes."""

import fcntl
import hashlib
import os
from types import SimpleNamespace

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import evict, layer_cache
from vault_cube.image.locks import pylock
from vault_cube.image.locks.aptlock import AptLock, Deb
from vault_cube.image.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache/store")


def put(store, content, used):
    """Put a file into the store. used: time of its last use, in seconds since 1970. Returns its SHA-256."""
    name = hashlib.sha256(content).hexdigest()
    store.path(name).parent.mkdir(parents=True, exist_ok=True)
    store.path(name).write_bytes(content)
    os.utime(store.path(name), (used, 1))
    return name


def test_the_least_recently_used_files_are_evicted_first(store):
    old, middle, new = (put(store, content, used) for content, used in ((b"o" * 10, 1), (b"k" * 10, 2), (b"n" * 10, 3)))
    assert store.evict(30, ()) == 0
    assert store.evict(20, ()) == 10
    assert (store.has(old), store.has(middle), store.has(new)) == (False, True, True)


def test_locked_files_are_never_evicted(store):
    old, new = put(store, b"old", 1), put(store, b"new", 2)
    assert store.evict(0, {old}) == 3
    assert (store.has(old), store.has(new)) == (True, False)


def test_reading_a_file_counts_as_use(store):
    old, new = put(store, b"old", 1), put(store, b"new", 2)
    store.verified(old, "old")
    assert store.path(old).stat().st_mtime == 1
    store.evict(3, ())
    assert (store.has(old), store.has(new)) == (True, False)


def test_a_partial_download_can_be_evicted(store):
    (store.root / "part").mkdir(parents=True)
    (store.root / "part/abc").write_bytes(b"x" * 5)
    assert store.evict(0, ()) == 5
    assert not (store.root / "part/abc").exists()


@pytest.fixture
def space(tmp_path, store):
    locks = tmp_path / "checkout/locks"
    (locks / "debian-12").mkdir(parents=True)
    (locks / "checkout.lock").write_text("uv==1\n")
    for file, digest in ((locks / "tools.lock", "a"), (locks / "debian-12/apt.lock", "b")):
        deb = Deb("root", "bash", "1", "amd64", "bookworm", "debian", 1, digest * 64, "pool/b.deb")
        file.write_text(AptLock(1, (deb,)).text())
    (locks / "debian-12/python-salt.lock").write_text(pylock.text([pylock.Wheel("salt", "1", "c" * 64, "salt.whl", 1)]))
    root = tmp_path / "cache"
    settings = SimpleNamespace(image=SimpleNamespace(cache_gib=1))
    return SimpleNamespace(
        checkout=tmp_path / "checkout", cache=root, layers=root / "layers", store=store.root, settings=settings
    )


def test_the_files_of_all_locks_are_found(space):
    assert evict.locked_files(space.checkout) == {"a" * 64, "b" * 64, "c" * 64}


def keep_layer(space, name, used):
    tree = space.cache / "work" / name / "tree"
    tree.mkdir(parents=True)
    (tree / "file").write_bytes(name.encode() * 100)
    entry = layer_cache.keep(space.layers, hashlib.sha256(name.encode()).hexdigest(), tree, name, {})
    os.utime(entry.folder / "meta.json", (used, used))
    return entry


def test_layers_and_store_are_each_limited(space, store, monkeypatch):
    monkeypatch.setattr(evict, "GIB", 1000)
    old, mine, new = keep_layer(space, "old!", 1), keep_layer(space, "mine", 2), keep_layer(space, "new!", 3)
    put(store, b"x" * 900, 1)
    put(store, b"y" * 900, 2)
    evicted = evict.limit(space, [hashlib.sha256(b"mine").hexdigest()])
    assert evicted == ["layer old!", "0.9 GiB of files that no lock of this checkout names"]
    assert [entry.folder.exists() for entry in (old, mine, new)] == [False, True, True]


def test_with_a_damaged_lock_nothing_is_evicted_from_the_store(space, store, monkeypatch, capsys):
    monkeypatch.setattr(evict, "GIB", 1)
    unnamed = put(store, b"x" * 900, 1)
    lock = space.checkout / "locks/debian-12/apt.lock"
    lock.write_text(lock.read_text().replace("bash", "dash"))
    assert evict.limit(space, []) == []
    assert store.has(unnamed)
    assert f"{lock}: damaged" in "".join(capsys.readouterr()).replace("\n", " ")


def test_clean_removes_layers_and_store_and_reports_the_space_freed(space, store, monkeypatch):
    keep_layer(space, "base", 1)
    put(store, os.urandom(300_000), 1)
    monkeypatch.setattr(evict, "GIB", 1_000_000)
    report = evict.clean(space)
    assert [line.split(":")[0] for line in report] == ["layers", "store", "scratch"]
    assert report[1] == f"store: 0.3 GiB freed ({store.root})"
    assert list(space.cache.iterdir()) == []
    assert evict.clean(space) == [f"{space.cache}: nothing to remove"]


def test_clean_is_refused_during_a_build(space, store):
    keep_layer(space, "base", 1)
    work = space.cache / "work"
    with (work / "debian-12-runtime-77.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(VaultCubeError, match="in use by debian-12-runtime-77: wait"):
            evict.clean(space)
        assert space.layers.exists()
    assert "layers" in evict.clean(space)[0]
