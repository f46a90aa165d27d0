"""The size of a disk and its base disk: it has room for all layers, and small changes in the last one keep the size."""

from types import SimpleNamespace

import pytest

from vault_cube.image.disk import raw_disk
from vault_cube.tree_manifest import parse

MIB = 1 << 20


def tree(*sizes):
    """Return the manifest of a tree with files of the given sizes, bytes."""
    files = (f"file{number} f 644 0:0 {size} 0 x -" for number, size in enumerate(sizes))
    return parse([". d 755 0:0 0 0 - -", *files])


@pytest.fixture
def root(workspace):
    """root(below, last) returns the size of the root partition, MiB."""
    space = workspace(local={"image": {"disk": {"spare_mib": 512, "esp_mib": 256}}})

    def size(below, last):
        layout = raw_disk.layout(space, below, last)
        assert layout.root_start == 257
        assert layout.total == layout.root + 258
        return layout.root

    return size


def test_a_change_in_the_last_layer_keeps_the_size(root):
    below = tree(1000 * MIB)
    assert root(below, tree(18 * MIB)) == root(below, tree(19 * MIB, 4096)) == 1020 + 64 + 64 + 512


def test_a_larger_last_layer_makes_the_partition_larger(root):
    below = tree(1000 * MIB)
    assert root(below, tree(65 * MIB)) - root(below, tree(18 * MIB)) == 64
    assert root(below, tree(640 * MIB)) - root(below, tree()) == 640


def test_small_files_take_whole_blocks_and_an_inode(root):
    assert root(tree(*[1] * 100_000), tree()) - root(tree(), tree()) == int(100_000 * (4096 + 512) * 1.02) // MIB


def test_the_key_of_a_base_disk_covers_its_layers_sizes_and_commands():
    def key(parent="of frameworks", commands="true", **environment):
        layers = [SimpleNamespace(meta={"key": parent})]
        return raw_disk.base_key(layers, {"ROOT_MIB": "1", **environment}, commands).key

    assert key() == key()
    others = [key("of other frameworks"), key(ROOT_MIB="2"), key(SOURCE_DATE_EPOCH="3"), key(commands="false")]
    assert len({key(), *others}) == 5


def test_a_hard_link_uses_no_space(root):
    linked = tree(300 * MIB) + parse(f"again{number} f 644 0:0 {300 * MIB} 0 =file0 -" for number in range(5))
    assert root(linked, tree()) == root(tree(300 * MIB), tree())


@pytest.mark.parametrize(("free_mib", "cached"), [(19, 0), (21, 1)])
def test_a_base_disk_is_cached_only_if_two_disks_fit(workspace, tmp_path, monkeypatch, free_mib, cached):
    space = workspace()
    monkeypatch.setattr(
        raw_disk, "_in_tools", lambda *_, folder, **__: (folder / "disk.raw").write_bytes(b"d" * (10 * MIB))
    )
    monkeypatch.setattr(raw_disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=free_mib * MIB))
    below, target = [SimpleNamespace(meta={"key": "frameworks"})], tmp_path / "disk.raw"
    raw_disk._put_base_disk(space, below, {"ROOT_MIB": "1"}, tmp_path / "log", target)
    assert target.read_bytes() == b"d" * (10 * MIB)
    assert len(list(space.layers.glob("*"))) == cached
