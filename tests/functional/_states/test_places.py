"""What keeps a state from writing its file, or lets others write it: found, left alone in a dry run, and repaired."""

import os
import struct
import subprocess
import sys

import pytest

from vault_cube.repair import places

NOBODY = 65534
# linux/posix_acl_xattr.h: version, then (tag, permissions, id): owner, user nobody, group, mask, others
ENTRIES = [(1, 6, 0xFFFFFFFF), (2, 6, NOBODY), (4, 4, 0xFFFFFFFF), (0x10, 6, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)]
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)


@pytest.fixture
def tree(tmp_path):
    """A folder /etc of its own, with two files that states write."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "etc/part.d"
    folder.mkdir(parents=True)
    for name in ("file", "other"):
        (folder / name).write_text("text\n")
        (folder / name).chmod(0o644)
    yield folder
    subprocess.run(["chattr", "-R", "-ia", tmp_path], check=False, capture_output=True)


@pytest.fixture
def plain(tree, load_state):
    """plain(test) runs the state for the files of the tree, as if a run's other states wrote them."""

    def run(test=False, **options):
        state = load_state("places", test)
        managed = {"state": "file", "fun": "managed"}
        state.__lowstate__ = [{**managed, "name": str(tree / name), "user": "root"} for name in ("file", "other")]
        state.__lowstate__ += [
            {"state": "file", "fun": "symlink", "name": str(tree / "link")},
            {"state": "test", "fun": "nop", "name": "nothing"},
            {"state": "cmd", "fun": "run", "name": "/bin/true"},
        ]
        # folders above the test's own may belong to anybody
        with_acls = [str(above) for above in tree.parents[2:]]
        return state.plain("x", with_acls=with_acls, **options)

    return run


def acl(path):
    os.setxattr(path, "system.posix_acl_access", ACL)


def default_acl(path):
    os.setxattr(path, "system.posix_acl_default", ACL)


def chattr(flag):
    def harm(path):
        if subprocess.run(["chattr", flag, path], check=False, capture_output=True).returncode:
            pytest.skip("the file system of the tests has no attributes")

    return harm


def replace_by(make):
    def harm(path):
        path.unlink()
        make(path)

    return harm


def full_folder(path):
    path.mkdir()
    (path / "inside").touch()


HARMS = {
    "immutable": ("file", chattr("+i")),
    "append-only": ("file", chattr("+a")),
    "an immutable folder": (".", chattr("+i")),
    "an access control list": ("file", acl),
    "an access control list of a folder": (".", acl),
    "a default list of a folder": (".", default_acl),
    "a link": ("file", replace_by(lambda path: path.symlink_to("other"))),
    "a link to nothing": ("file", replace_by(lambda path: path.symlink_to("/nonexistent/x"))),
    "a link to a folder": ("file", replace_by(lambda path: path.symlink_to("/etc"))),
    "a folder": ("file", replace_by(full_folder)),
    "a socket or pipe": ("file", replace_by(os.mkfifo)),
    "a folder in the place of a link": ("link", full_folder),
    "a folder of somebody else": (".", lambda path: os.chown(path, NOBODY, NOBODY)),
    "a folder that all may write to": (".", lambda path: path.chmod(0o777)),
    "a folder that its group may write to": (".", lambda path: path.chmod(0o775)),
    "a folder above": ("..", lambda path: path.resolve().chmod(0o757)),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_wrong_is_reported_and_repaired(tree, plain, harm):
    name, do = HARMS[harm]
    assert plain()["changes"] == {}
    do(tree / name)
    planned = plain(test=True)
    assert (planned["result"], len(planned["changes"])) == (None, 1)
    assert plain(test=True)["changes"] == planned["changes"]
    ran = plain()
    assert (ran["result"], ran["changes"].keys()) == (True, planned["changes"].keys()), ran["comment"]
    assert plain()["changes"] == {}
    (tree / "new").touch()
    assert tree.stat().st_mode & 0o022 == 0


def test_a_link_keeps_what_it_led_to(tree, plain):
    (tree / "file").unlink()
    (tree / "other").write_text("the owner's\n")
    (tree / "file").symlink_to(tree / "other")
    plain()
    assert not (tree / "file").is_symlink()
    assert (tree / "file").read_text() == (tree / "other").read_text() == "the owner's\n"


def test_a_folder_is_moved_aside_with_its_content_and_again(tree, plain):
    for _ in range(2):
        if (tree / "file").exists():
            (tree / "file").unlink()
        full_folder(tree / "file")
        plain()
        assert (tree / "file.moved/inside").exists()
        (tree / "file").touch()


def test_without_a_list_the_group_has_its_own_permissions(tree, plain):
    acl(tree / "file")
    assert (tree / "file").stat().st_mode & 0o070 == 0o060
    plain()
    assert (tree / "file").stat().st_mode & 0o777 == 0o644


def test_a_link_that_is_allowed_stays(tree, plain):
    replace_by(lambda path: path.symlink_to("other"))(tree / "file")
    assert plain(links=[str(tree / "file")])["changes"] == {}


def test_a_folder_whose_owner_a_state_sets_is_left_to_that_state(tree):
    written = places.written_by([{"state": "file", "fun": "directory", "name": str(tree), "user": "nobody"}])
    written.add(str(tree / "file"), regular=True)
    tree.chmod(0o777)
    assert str(tree) not in places.problems(written)


def test_folders_below_etc_must_exist():
    chunk = {"state": "file", "fun": "managed", "name": "/etc/vault-cube-no-such/part.d/file"}
    assert set(places.problems(places.written_by([chunk]))) >= {
        "/etc/vault-cube-no-such",
        "/etc/vault-cube-no-such/part.d",
    }
    outside = {**chunk, "name": "/usr/lib/vault-cube-no-such/file"}
    assert "/usr/lib/vault-cube-no-such" not in places.problems(places.written_by([outside]))


@pytest.mark.parametrize("chunk", [{"fun": "managed", "makedirs": True}, {"fun": "serialize", "makedirs": True}])
def test_a_folder_that_a_state_makes_may_be_missing(chunk):
    """The first run of a new layer's states must not change a state of a lower layer."""
    chunk = {"state": "file", "name": "/etc/no-such/a/file", **chunk}
    assert places.problems(places.written_by([chunk])) == {}


def test_a_folder_of_a_state_may_be_missing_but_not_the_one_above():
    chunk = {"state": "file", "fun": "directory", "name": "/etc/no-such/folder"}
    inside = {"state": "file", "fun": "managed", "name": "/etc/no-such/folder/file"}
    assert places.problems(places.written_by([chunk, inside])) == {"/etc/no-such": "missing"}


@pytest.fixture
def usable(tree, load_state):
    def run(test=False, folders=("/",)):
        state = load_state("places", test)
        state.__lowstate__ = [{"state": "file", "fun": "managed", "name": str(tree / "file")}]
        return state.usable("x", folders=folders)

    return run


def test_a_pipe_ends_a_dry_run_and_is_moved_aside(tree, usable):
    assert usable()["result"] is True
    replace_by(os.mkfifo)(tree / "file")
    refused = usable(test=True)
    assert refused["result"] is False
    assert str(tree / "file") in refused["comment"]
    assert usable()["result"] is True
    assert usable(test=True)["result"] is True
    assert not (tree / "file").exists()


@pytest.mark.parametrize(("options", "message"), [("ro,size=64m", "read-only"), ("size=1m", "full"),
                                                  ("size=64m,nr_inodes=20", "full")])  # fmt: skip
def test_a_file_system_that_cannot_be_written_is_one_line(tmp_path, options, message):
    code = "import pathlib, sys, vault_cube.repair.places as p; print(p.writable(pathlib.Path(sys.argv[1])))"
    script = f'mount -t tmpfs -o {options} tmpfs {tmp_path} && exec "$0" -c "$1" {tmp_path}'
    words = ["unshare", "--mount", "sh", "-c", script, sys.executable, code]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert f"{tmp_path}: the file system is {message}" in ran.stdout, ran.stderr
    assert len(ran.stdout.splitlines()) == 1
    assert "`" in ran.stdout
