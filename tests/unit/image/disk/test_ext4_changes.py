"""The debugfs commands that add the top layer to the layers below; plain folders stand for the mounts.

tests/integration/test_disk.py runs debugfs with them.
"""

import os

import pytest

from vault_cube.image.disk import ext4_changes

EPOCH = 1_700_000_000


@pytest.fixture
def trees(tmp_path):
    """Folders `below`, `tree` and `top`, and an empty one for values."""
    for name in ("below", "tree", "top", "values"):
        (tmp_path / name).mkdir()
    return tmp_path


def commands(trees):
    """Return the commands without those that set fields."""
    lines = list(ext4_changes.commands(*(trees / name for name in ("below", "tree", "top")), EPOCH, trees / "values"))
    assert lines[0] == f"set_current_time @{EPOCH}"
    return [line for line in lines[1:] if not line.startswith("set_inode_field ")]


def put(trees, path, content, *names):
    for name in names:
        (trees / name / path).parent.mkdir(parents=True, exist_ok=True)
        (trees / name / path).write_text(content)


def test_a_new_file_is_written_to_its_folder(trees):
    put(trees, "etc/new", "x", "tree", "top")
    assert commands(trees) == ['cd "/"', 'mkdir "etc"', 'cd "/etc"', f'write "{trees}/tree/etc/new" "new"']


def test_a_changed_file_is_removed_and_written_again(trees):
    put(trees, "etc/conf", "old", "below")
    put(trees, "etc/conf", "new", "tree", "top")
    assert commands(trees) == ['cd "/etc"', 'rm "./conf"', 'cd "/etc"', f'write "{trees}/tree/etc/conf" "conf"']


def test_files_that_the_layer_removed_are_removed_and_all_others_stay(trees):
    for path in ("etc/gone/a", "etc/gone/deep/b"):
        put(trees, path, "x", "below")
    for path in ("etc/stays", "usr/untouched"):
        put(trees, path, "x", "below", "tree")
    (trees / "top/etc").mkdir()
    (trees / "top/etc/gone").write_text("stands for a whiteout, which is not visible in the tree")
    assert commands(trees) == [
        *('cd "/etc/gone"', 'rm "./a"', 'cd "/etc/gone/deep"', 'rm "./b"'),
        *('cd "/etc/gone"', 'rmdir "./deep"', 'cd "/etc"', 'rmdir "./gone"'),
    ]


def test_a_folder_becomes_a_link_and_a_file_a_folder(trees):
    put(trees, "one/in", "x", "below")
    put(trees, "two", "x", "below")
    for name in ("tree", "top"):
        (trees / name / "one").symlink_to("two/")
        put(trees, "two/in", "y", name)
    assert commands(trees) == [
        *('cd "/one"', 'rm "./in"', 'cd "/"', 'rmdir "./one"', 'cd "/"', 'symlink "one" "two/"'),
        *('cd "/"', 'rm "./two"', 'cd "/"', 'mkdir "two"', 'cd "/two"', f'write "{trees}/tree/two/in" "in"'),
    ]


def test_a_second_name_of_a_file_is_a_hard_link(trees):
    for name in ("tree", "top"):
        put(trees, "a", "x", name)
        os.link(trees / name / "a", trees / name / "b")
    assert commands(trees) == ['cd "/"', f'write "{trees}/tree/a" "a"', 'cd "/"', 'ln "/a" "./b"']


def test_names_with_spaces_and_quotes_are_quoted(trees):
    for name in ("tree", "top"):
        put(trees, 'a "b" c', "x", name)
    assert commands(trees)[1] == f'write "{trees}/tree/a ""b"" c" "a ""b"" c"'


def test_a_hard_link_updates_the_link_count(trees):
    for name in ("tree", "top"):
        put(trees, "a", "x", name)
        os.link(trees / name / "a", trees / name / "b")
    lines = list(ext4_changes.commands(*(trees / name for name in ("below", "tree", "top")), EPOCH, trees / "values"))
    assert 'set_inode_field "/a" links_count 2' in lines


def test_every_file_gets_its_owner_mode_and_times(trees):
    put(trees, "tool", "x", "tree", "top")
    (trees / "tree/tool").chmod(0o4755)
    os.utime(trees / "tree/tool", (5, 1_600_000_000))
    lines = list(ext4_changes.commands(*(trees / name for name in ("below", "tree", "top")), EPOCH, trees / "values"))
    owner = (trees / "tree/tool").stat()
    assert lines[-7:] == [
        'set_inode_field "/tool" mode 0104755',
        f'set_inode_field "/tool" uid {owner.st_uid}',
        f'set_inode_field "/tool" gid {owner.st_gid}',
        'set_inode_field "/tool" mtime @1600000000',
        *(f'set_inode_field "/tool" {field} @{EPOCH}' for field in ("atime", "ctime", "crtime")),
    ]


def test_a_file_that_debugfs_cannot_create_is_an_error(trees):
    for name in ("tree", "top"):
        os.mkfifo(trees / name / "pipe")
    with pytest.raises(ValueError, match="pipe: not a regular file, folder or symbolic link"):
        commands(trees)
    for name in ("tree", "top"):
        (trees / name / "pipe").unlink()
        put(trees, "two\nlines", "x", name)
    with pytest.raises(ValueError, match="does not support names with a line break"):
        commands(trees)
