"""The exact lines of image.diff for two trees with known differences."""

import os

import pytest

from vault_cube import tree_manifest
from vault_cube.image.cache import layer_cache
from vault_cube.image.inspect import diff

TIME = 1_700_000_000
SITE = "opt/vault-cube/envs/pytorch/lib/python3.11/site-packages"


def tree(folder, files):
    """A folder with files: path → content, or (content, mode)."""
    for path, content in files.items():
        text, mode = content if isinstance(content, tuple) else (content, 0o644)
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        file.chmod(mode)
    folder.mkdir(exist_ok=True)
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (TIME, TIME))
    return folder


def report(one, two):
    return diff.trees(*(diff.Side(folder, tree_manifest.parse(tree_manifest.entries(folder))) for folder in (one, two)))


@pytest.fixture(autouse=True)
def no_diffoscope(monkeypatch, tmp_path):
    """Hide a diffoscope on this machine's PATH from the tests."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def dpkg(**versions):
    status = "\n".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\nDescription: x\n y\n"
        for name, version in versions.items()
    )
    return {
        "var/lib/dpkg/status": status,
        **{f"var/lib/dpkg/info/{name}.list": f"/.\n/usr\n/usr/bin/{name}\n" for name in versions},
        **{f"usr/bin/{name}": f"{name} {version}" for name, version in versions.items()},
    }


def wheel(name, version):
    info = f"{name}-{version}.dist-info"
    return {
        f"{SITE}/{info}/RECORD": f"{name}/__init__.py,,\n../../../bin/{name},,\n{info}/RECORD,,\n",
        f"{SITE}/{name}/__init__.py": f"v = '{version}'",
        f"opt/vault-cube/envs/pytorch/bin/{name}": version,
    }


def test_equal_trees_have_no_differences(tmp_path):
    files = dpkg(bash="5.1") | {"etc/motd": "hello\n"}
    assert report(tree(tmp_path / "a", files), tree(tmp_path / "b", files)) == []


def test_changed_packages_are_listed_and_their_files_counted(tmp_path):
    one = tree(tmp_path / "a", dpkg(bash="5.1", gone="1"))
    two = tree(tmp_path / "b", dpkg(bash="5.2", new="2") | {"etc/own": ""})
    assert report(one, two) == [
        "package bash 5.1 → 5.2",
        "package gone 1 → none",
        "package new none → 2",
        "6 files of these packages",
        "+ etc",
        "+ etc/own",
    ]


def test_a_file_of_an_unchanged_package_is_listed(tmp_path):
    one = tree(tmp_path / "a", dpkg(bash="5.1"))
    two = tree(tmp_path / "b", dpkg(bash="5.1") | {"usr/bin/bash": "bash 5.x"})
    assert report(one, two) == ["~ usr/bin/bash: content from byte 7: 31, 78"]


def test_python_distributions_are_listed_by_environment(tmp_path):
    one = tree(tmp_path / "a", wheel("torch", "2.12"))
    two = tree(tmp_path / "b", wheel("torch", "2.13"))
    assert report(one, two) == [
        "python opt/vault-cube/envs/pytorch: torch 2.12 → 2.13",
        "6 files of these packages",
    ]


def test_configuration_is_shown_line_by_line(tmp_path):
    one = tree(tmp_path / "a", {"etc/ssh/sshd_config": "Port 22\nPermitRootLogin no\n", "etc/blob": b"\xff\x00"})
    two = tree(tmp_path / "b", {"etc/ssh/sshd_config": "Port 22\nPermitRootLogin yes\n", "etc/blob": b"\xff\x01"})
    assert report(one, two) == [
        "~ etc/blob: content from byte 1: 00, 01",
        "~ etc/ssh/sshd_config: size 27 → 28; content from byte 24: 6e 6f 0a, 79 65 73 0a",
        "    -PermitRootLogin no",
        "    +PermitRootLogin yes",
    ]


def test_content_that_other_users_may_not_read_is_not_shown(tmp_path, monkeypatch):
    one = tree(tmp_path / "a", {"etc/ssh/ssh_host_key": ("secret one\n", 0o600), "etc/shadow": ("root:a", 0o640)})
    two = tree(tmp_path / "b", {"etc/ssh/ssh_host_key": ("secret two\n", 0o600), "etc/shadow": ("root:b", 0o640)})
    compared = []
    monkeypatch.setattr(diff, "_diffoscope", lambda _one, _two, paths: compared.extend(paths) or [])
    assert report(one, two) == [
        "~ etc/shadow: content from byte 5, not shown: not readable by all users",
        "~ etc/ssh/ssh_host_key: content from byte 7, not shown: not readable by all users",
    ]
    assert compared == []


def test_differences_of_modes_times_links_and_types_are_listed(tmp_path):
    one = tree(tmp_path / "a", {"mode": ("x", 0o644), "time": "x", "kind": "", "with space": "1"})
    two = tree(tmp_path / "b", {"mode": ("x", 0o4755), "time": "x", "with space": "2"})
    (one / "link").symlink_to("/here")
    (two / "link").symlink_to("/there is")
    (two / "kind").mkdir()
    os.utime(two / "time", (TIME + 1, TIME + 1))
    for folder in (one, two):
        for name in ("link", "kind", "."):
            os.utime(folder / name, (TIME, TIME), follow_symlinks=False)
    lines = report(one, two)
    assert lines[0].startswith("~ kind: type f → d; mode 644 → 755; ")
    assert lines[1:] == [
        "~ link: content /here → /there is",
        "~ mode: mode 644 → 4755",
        "~ time: mtime 2023-11-14T22:13:20+00:00 → 2023-11-14T22:13:21+00:00",
        "~ with space: content from byte 0: 31, 32",
    ]


def test_the_end_of_a_truncated_file_is_named(tmp_path):
    one = tree(tmp_path / "a", {"file": b"x" * (diff.CHUNK + 3)})
    two = tree(tmp_path / "b", {"file": b"x" * diff.CHUNK})
    assert report(one, two)[0].endswith(f"content from byte {diff.CHUNK}: 78 78 78, end of file")


def test_a_long_list_is_truncated(tmp_path):
    one = tree(tmp_path / "a", {})
    two = tree(tmp_path / "b", {f"f{number:04}": "" for number in range(diff.LISTED + 7)})
    lines = report(one, two)
    assert len(lines) == diff.LISTED + 1
    assert lines[-1] == "… and 7 more lines"


def test_two_cached_layers_are_compared(tmp_path):
    entries = []
    for number in "12":
        upper = tree(tmp_path / f"work{number}" / "upper", {"etc/motd": f"{number}\n"})
        entries.append(layer_cache.keep(tmp_path / "layers", number * 64, upper, "base", {}))
    assert diff.layers(*(entry.folder for entry in entries)) == [
        "~ etc/motd: content from byte 0: 31 0a, 32 0a",
        "    -1",
        "    +2",
    ]


def test_diffoscope_is_used_if_it_is_installed(tmp_path):
    tool = tmp_path / "bin/diffoscope"
    tool.write_text('#!/bin/sh\nfor last; do :; done\nread -r line < "$last"\necho "looked at $line"\nexit 1\n')
    tool.chmod(0o755)
    one = tree(tmp_path / "a", {"blob": "one\n", "same": "x"})
    two = tree(tmp_path / "b", {"blob": "two\n", "same": "x"})
    assert report(one, two) == [
        "~ blob: content from byte 0: 6f 6e 65 0a, 74 77 6f 0a",
        "diffoscope blob:",
        "    looked at two",
    ]
