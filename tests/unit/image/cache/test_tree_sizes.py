"""The size of a layer, and the bytes that its hard links save, from its manifest."""

import os

from vault_cube import tree_manifest


def test_a_linked_file_counts_once_and_its_other_names_count_as_saved(tmp_path):
    (tmp_path / "one").write_bytes(b"x" * 1000)
    (tmp_path / "env").mkdir()
    os.link(tmp_path / "one", tmp_path / "env/two")
    os.link(tmp_path / "one", tmp_path / "env/three")
    (tmp_path / "own").write_bytes(b"y" * 50)
    (tmp_path / "name").symlink_to("own")
    lines = tree_manifest.parse(tree_manifest.entries(tmp_path))
    assert tree_manifest.tree_bytes(lines) == 1050
    assert tree_manifest.linked_bytes(lines) == 2000
