"""The limit on layers and store, and what make clean-cache removes, over folders of a few bytes."""

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
    """A stored file, last used at a time."""
    name = hashlib.sha256(content).hexdigest()
    store.path(name).parent.mkdir(parents=True, exist_ok=True)
    store.path(name).write_bytes(content)
    os.utime(store.path(name), (used, 1))
    return name


def test_the_least_recently_used_files_go_first(store):
    old, kept, new = (put(store, content, used) for content, used in ((b"o" * 10, 1), (b"k" * 10, 2), (b"n" * 10, 3)))
    assert store.evict(30, ()) == 0
    assert store.evict(20, ()) == 10
    assert (store.has(old), store.has(kept), store.has(new)) == (False, True, True)


def test_locked_files_stay_whatever_the_limit(store):
    old, new = put(store, b"old", 1), put(store, b"new", 2)
    assert store.evict(0, {old}) == 3
    assert (store.has(old), store.has(new)) == (True, False)


def test_a_file_that_is_read_is_used(store):
    old, new = put(store, b"old", 1), put(store, b"new", 2)
    store.verified(old, "old")
    assert store.path(old).stat().st_mtime == 1
    store.evict(3, ())
    assert (store.has(old), store.has(new)) == (True, False)


def test_a_cut_off_download_can_go_as_well(store):
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


def test_the_locks_of_all_targets_and_the_tools_count(space):
    assert evict.locked_files(space.checkout) == {"a" * 64, "b" * 64, "c" * 64}


def keep_layer(space, name, used):
    made = space.cache / "work" / name / "tree"
    made.mkdir(parents=True)
    (made / "file").write_bytes(name.encode() * 100)
    entry = layer_cache.keep(space.layers, hashlib.sha256(name.encode()).hexdigest(), made, name, {})
    os.utime(entry.folder / "meta.json", (used, used))
    return entry


def test_layers_and_store_are_held_to_the_limit(space, store, monkeypatch):
    monkeypatch.setattr(evict, "GIB", 1000)
    old, mine, new = keep_layer(space, "old!", 1), keep_layer(space, "mine", 2), keep_layer(space, "new!", 3)
    put(store, b"x" * 900, 1)
    put(store, b"y" * 900, 2)
    gone = evict.limit(space, [hashlib.sha256(b"mine").hexdigest()])
    assert gone == ["layer old!", "0.9 GiB of files that no lock here names"]
    assert [entry.folder.exists() for entry in (old, mine, new)] == [False, True, True]


def test_a_damaged_lock_of_another_target_is_told_and_the_store_keeps_everything(space, store, monkeypatch, capsys):
    monkeypatch.setattr(evict, "GIB", 1)
    unnamed = put(store, b"x" * 900, 1)
    lock = space.checkout / "locks/debian-12/apt.lock"
    lock.write_text(lock.read_text().replace("bash", "dash"))
    assert evict.limit(space, []) == []
    assert store.has(unnamed)
    assert f"{lock}: damaged" in "".join(capsys.readouterr()).replace("\n", " ")


def test_clean_removes_layers_and_store_and_says_what_it_freed(space, store, monkeypatch):
    keep_layer(space, "base", 1)
    put(store, os.urandom(300_000), 1)
    monkeypatch.setattr(evict, "GIB", 1_000_000)
    said = evict.clean(space)
    assert [line.split(":")[0] for line in said] == ["layers", "store", "scratch"]
    assert said[1] == f"store: 0.3 GiB freed ({store.root})"
    assert list(space.cache.iterdir()) == []
    assert evict.clean(space) == [f"{space.cache}: there is nothing"]


def test_clean_does_not_take_a_running_build_its_layers(space, store):
    keep_layer(space, "base", 1)
    work = space.cache / "work"
    with (work / "debian-12-runtime-77.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(VaultCubeError, match="in use by debian-12-runtime-77: wait"):
            evict.clean(space)
        assert space.layers.exists()
    assert "layers" in evict.clean(space)[0]
