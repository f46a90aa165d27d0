"""The states of shared files with Salt: repeated, under test=True, and on damaged files, whose content is kept."""

import json
import os
from pathlib import Path

import pytest

from vault_cube import shared_files

SOURCE = Path(__file__).parents[4] / "salt/base/files/ufw.rules"
OWNER = {"user": "root", "group": "root", "mode": "0644"}
LINES = ["LABEL=root / ext4 defaults 0 1"]


@pytest.fixture
def shared(salt_of):
    return salt_of("debian-12").states.shared


@pytest.fixture
def file(tmp_path):
    return tmp_path / "etc/file"


def block(shared, file, **options):
    return shared.block(name=str(file), lines=LINES, by="salt/base/x.sls", **OWNER | options)


def test_a_dry_run_changes_nothing_and_a_second_run_changes_nothing(shared, file):
    dry = block(shared, file, test=True)
    assert (dry.result, bool(dry.changes), file.exists()) == (None, True, False)
    assert block(shared, file).changes
    assert not block(shared, file).changes
    assert not block(shared, file, test=True).changes


def test_the_owner_s_lines_are_named_and_no_drift(shared, file):
    block(shared, file)
    with file.open("a") as opened:
        opened.write("LABEL=data /data ext4 nofail 0 2\n")
    again = block(shared, file)
    assert (again.result, again.changes) == (True, {})
    assert next(iter(again.raw.values()))["others"] == ["LABEL=data /data ext4 nofail 0 2"]


def test_a_link_is_replaced_by_a_file_with_the_same_entries(shared, tmp_path):
    target = tmp_path / "target"
    target.write_text("x\n")
    link = tmp_path / "link"
    link.symlink_to(target)
    assert block(shared, link, test=True).changes
    assert block(shared, link).changes
    assert not link.is_symlink()
    assert {"x", LINES[0]} <= set(link.read_text().splitlines())
    assert target.read_text() == "x\n"
    assert not block(shared, link).changes


@pytest.mark.parametrize("harm", [
    lambda file: file.chmod(0o666),
    lambda file: file.chmod(0o600),
    lambda file: os.chown(file, 65534, 0),
    lambda file: os.chown(file, 0, 65534),
])  # fmt: skip
def test_owner_group_and_mode_are_those_of_the_state(shared, file, harm):
    block(shared, file)
    before = file.stat()
    harm(file)
    assert block(shared, file, test=True).result is None
    assert block(shared, file).changes
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert not block(shared, file).changes


def test_an_unknown_owner_is_an_error_in_one_line(shared, file):
    ran = block(shared, file, user="no-such-user")
    assert (ran.result, ran.changes) == (False, {})
    assert "no-such-user" in ran.comment
    assert "\n" not in ran.comment


def test_an_empty_result_is_no_file(shared, file):
    block(shared, file)
    assert shared.block(name=str(file), lines=[], by="salt/base/x.sls", **OWNER).changes
    assert not file.exists()
    assert not shared.block(name=str(file), lines=[], by="salt/base/x.sls", **OWNER).changes


@pytest.mark.parametrize("damaged", [b"{", b"[1, 2]", b'{"ip": "x"', b"\xff\xfe{}", b"null", b"\x00\x00"])
def test_a_damaged_file_is_repaired_and_a_copy_is_kept(shared, file, damaged):
    file.parent.mkdir()
    file.write_bytes(damaged)
    assert shared.json_object(name=str(file), values={"ip": "a"}, **OWNER, test=True).result is None
    assert file.read_bytes() == damaged
    ran = shared.json_object(name=str(file), values={"ip": "a"}, **OWNER)
    assert ran.result is True
    assert json.loads(file.read_text()) == {"ip": "a"}
    (copy,) = file.parent.glob("file.damaged-*")
    assert copy.read_bytes() == damaged
    assert not shared.json_object(name=str(file), values={"ip": "a"}, **OWNER).changes


def test_an_emptied_file_is_repaired_without_a_copy(shared, file):
    file.parent.mkdir()
    file.touch()
    assert shared.json_object(name=str(file), values={"ip": "a"}, **OWNER).changes
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_a_folder_in_place_of_the_file_is_an_error_in_one_line(shared, file):
    file.mkdir(parents=True)
    ran = block(shared, file)
    assert ran.result is False
    assert ran.comment == f"{file}: Is a directory: move it away"


def test_the_rules_of_ufw_stay_the_same_when_they_are_written_again(salt_of):
    salt = salt_of("debian-12")
    theirs = "### tuple ### allow tcp 443 ::/0 any ::/0 in\n-A ufw6-user-input -p tcp --dport 443 -j ACCEPT"

    def write(others):
        context = {"family": "6", "ports": [22, 9100], "container_ports": [8000], "others": others}
        return salt.modules.file.apply_template_on_contents(SOURCE.read_text(), "jinja", context, {}, "base")

    first = write([theirs])
    assert shared_files.other_rules(first, [22, 9100]) == [theirs]
    assert write(shared_files.other_rules(first, [22, 9100])) == first
    assert shared_files.other_rules(write([]), [22]) == []  # a port that was closed in the pillar is not the owner's
