"""The manifest of a tree, and the comparison of two manifests."""

import os

import pytest

from vault_cube import tree_manifest


@pytest.fixture
def tree(tmp_path):
    top = tmp_path / "tree"
    (top / "etc/a b").mkdir(parents=True)
    (top / "etc/a b/new\nline").write_text("x")
    (top / "etc/ümlaut").write_text("yy")
    (top / "etc/link").symlink_to("a b/new\nline")
    os.link(top / "etc/ümlaut", top / "etc/z-twin")
    os.mkfifo(top / "etc/pipe")
    return top


def fields(tree, path):
    return next(line.split(" ") for line in tree_manifest.entries(tree) if line.split(" ")[0] == path)


def test_the_manifest_has_one_sorted_line_per_file_and_a_dot_for_the_top(tree):
    paths = [line.split(" ")[0] for line in tree_manifest.entries(tree)]
    assert set(paths) == {
        ".", "etc", "etc/a%20b", "etc/a%20b/new%0Aline", "etc/%C3%BCmlaut", "etc/link", "etc/z-twin", "etc/pipe",
    }  # fmt: skip
    assert tree_manifest.entries(tree) == tree_manifest.entries(tree)
    assert all(len(line.split(" ")) == 8 for line in tree_manifest.entries(tree))


def test_file_types(tree):
    assert {path: fields(tree, path)[1] for path in ("etc", "etc/link", "etc/pipe", "etc/z-twin")} == {
        "etc": "d", "etc/link": "l", "etc/pipe": "p", "etc/z-twin": "f",
    }  # fmt: skip


def test_a_hard_link_refers_to_the_first_name_of_its_file(tree):
    twins = [fields(tree, "etc/z-twin")[6], fields(tree, "etc/%C3%BCmlaut")[6]]
    assert sorted(twin.startswith("=") for twin in twins) == [False, True]


@pytest.mark.skipif(os.geteuid() != 0, reason="trusted attributes need root")
def test_attributes_of_overlayfs_are_left_out_and_others_are_not(tree):
    before = tree_manifest.entries(tree)
    os.setxattr(tree / "etc", "trusted.overlay.opaque", b"y")
    assert tree_manifest.entries(tree) == before
    os.setxattr(tree / "etc", "user.mine", b"1")
    assert tree_manifest.differences(before, tree_manifest.entries(tree)) == ["~ etc: xattrs"]


CHANGES = {
    "~ etc/z-twin: content": lambda top: rewrite(top / "etc/ümlaut", "zz"),
    "~ etc/a%20b/new%0Aline: size, content": lambda top: rewrite(top / "etc/a b/new\nline", "longer"),
    "~ etc/pipe: mode": lambda top: (top / "etc/pipe").chmod(0o777),
    "- etc/pipe": lambda top: unseen(top / "etc", (top / "etc/pipe").unlink),
    "+ etc/new": lambda top: unseen(top / "etc", (top / "etc/new").touch),
}


def rewrite(file, text):
    before = file.stat()
    file.write_text(text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def unseen(folder, action):
    before = folder.stat()
    action()
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("line", CHANGES)
def test_a_difference_has_path_and_fields(tree, line):
    before = tree_manifest.entries(tree)
    CHANGES[line](tree)
    after = tree_manifest.entries(tree)
    assert line in tree_manifest.differences(before, after)
    assert tree_manifest.digest(before) != tree_manifest.digest(after)
    assert tree_manifest.differences(before, after) == [line]


def test_equal_manifests_have_no_differences(tree):
    assert tree_manifest.differences(tree_manifest.entries(tree), tree_manifest.entries(tree)) == []


def test_a_damaged_line_is_a_difference_and_not_an_error(tree):
    before = tree_manifest.entries(tree)
    truncated = [line.rsplit(" ", 2)[0] if line.startswith("etc/pipe") else line for line in before]
    assert tree_manifest.differences(truncated, before) == ["~ etc/pipe: content, xattrs"]
    assert tree_manifest.differences([*before, "etc/pipe a b c d e f g h i"], before)[0].startswith("~ etc/pipe: ")


def test_a_line_has_the_same_text_after_parsing(tree):
    lines = tree_manifest.entries(tree)
    assert [line.format() for line in tree_manifest.parse(lines)] == lines


@pytest.mark.parametrize(
    "damage", ["", "etc", "etc d 755 0:0 0 0 -", "etc d 755 0:0 0 0 - - -", "etc d 789 0:0 0 0 - -"]
)
def test_a_damaged_line_cannot_be_parsed(damage):
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        tree_manifest.Line.parse(damage)
