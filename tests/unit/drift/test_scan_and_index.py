"""What the default mode reads again, what it trusts, and what a damaged index does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import box
import pytest

from vault_cube.drift import index, manifest
from vault_cube.drift.comparison import FOLDER, Request, compare
from vault_cube.drift.manifest import ManifestError, Patterns
from vault_cube.drift.scan import Scan

pytestmark = pytest.mark.skipif(not box.is_root(), reason="the index is root's")


def run(root: Path, **options: Any) -> dict[str, Any]:
    return compare(Request(root, root.parent / "manifest.gz", keys=[box.KEY], **options))


def test_the_second_comparison_reads_nothing_again(copy: Path) -> None:
    first, second = run(copy), run(copy)
    assert first["read"] > 50
    assert (second["read"], second["trusted"]) == (0, first["read"])
    assert first["findings"] == second["findings"] == []


def test_a_file_that_was_written_is_read_again_even_with_its_old_size_and_time(copy: Path) -> None:
    run(copy)
    file = copy / "usr/sbin/sshd"
    status = file.stat()
    file.write_text("evil")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = run(copy)
    assert (result["read"], [finding["what"] for finding in result["findings"]]) == (1, ["/usr/sbin/sshd"])
    # the changed content is in the index, too, and still differs
    assert [finding["what"] for finding in run(copy)["findings"]] == ["/usr/sbin/sshd"]


def test_full_reads_everything_again(copy: Path) -> None:
    first, second = run(copy), run(copy, full=True)
    assert (second["read"], second["trusted"], second["mode"]) == (first["read"], 0, "full")


def test_a_new_name_for_another_inode_is_read_again(copy: Path) -> None:
    run(copy)
    (copy / "usr/bin/less").rename(copy / "usr/bin/old")
    (copy / "usr/bin/less").write_text("evil")
    assert run(copy)["read"] == 1


@pytest.mark.parametrize("damage", [b"", b"x", b"vault-cube-drift-index-1 a b\n", b"\xff\xfe\x00" * 99])
def test_a_damaged_index_is_reported_and_everything_is_read(copy: Path, damage: bytes) -> None:
    first = run(copy)
    (copy / FOLDER / index.NAME).write_bytes(damage)
    result = run(copy)
    assert result["read"] == first["read"]
    assert "damaged" in result["notes"][0]
    assert run(copy)["notes"] == []


def test_one_flipped_bit_in_the_index_is_damage(copy: Path) -> None:
    run(copy)
    file = copy / FOLDER / index.NAME
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(bytes(data))
    assert "damaged" in run(copy)["notes"][0]


def test_an_index_of_another_image_is_not_used(copy: Path) -> None:
    run(copy)
    assert index.load(copy / FOLDER, "another image")[0] == {}


def test_an_index_is_read_below_some_folders_only(copy: Path) -> None:
    image = run(copy)["manifest_sha256"]
    whole, below = (index.load(copy / FOLDER, image, tops)[0] for tops in (("",), ("etc", "usr/bin")))
    assert below == {path: state for path, state in whole.items() if path.startswith(("etc", "usr/bin"))}
    assert 0 < len(below) < len(whole)


def test_an_index_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "drift").write_text("a file in the place of the folder")
    assert "read again next time" in index.save(tmp_path / "drift", "image", {})


def test_an_index_that_is_a_pipe_does_not_block(copy: Path) -> None:
    (copy / FOLDER).mkdir(parents=True)
    os.mkfifo(copy / FOLDER / index.NAME)
    assert "not a regular file" in run(copy)["notes"][0]


def test_a_file_with_the_image_s_change_time_was_never_written(pristine: Path) -> None:
    image = manifest.read(pristine.parent / "manifest.gz")
    # the kernel sets the change time, so the image's time is set to that of the files
    files = [path for path, entry in image.entries.items() if entry.line.is_file]
    newest = max((pristine / path).stat().st_ctime_ns for path in files)
    image.header["epoch"] = newest / 10**9
    same = [path for path in files if (pristine / path).stat().st_ctime_ns == image.header["epoch"] * 10**9]
    scan = Scan(pristine, image, {}, Patterns(image.header["expected"]).covers)
    assert [difference.path for difference in scan.run()] == [manifest.PLACE]
    assert scan.trusted == len(same)
    assert Scan(pristine, image, {}, lambda _: False, full=True).trusted == 0


def test_what_is_mounted_in_the_tree_is_not_compared(copy: Path) -> None:
    script = 'mount -t tmpfs none "$0/srv" && touch "$0/srv/x" && exec "$1" -c "$2" "$0"'
    code = (
        "import sys; from pathlib import Path; from vault_cube.drift.comparison import Request, compare;"
        "r = Path(sys.argv[1]); print(compare(Request(r, r.parent / 'manifest.gz', use_index=False))['findings'])"
    )
    python = Path(os.sys.executable)
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, copy, python, code], capture_output=True, text=True, check=True
    )
    assert "/srv" not in ran.stdout


@pytest.mark.parametrize("damage", [b"", b"not gzip", b"\x1f\x8b\x08\x00"])
def test_a_damaged_manifest_is_an_error_in_one_line(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "manifest.gz").write_bytes(damage)
    with pytest.raises(ManifestError, match="damaged"):
        manifest.read(tmp_path / "manifest.gz")


def test_a_missing_manifest_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="was not made from an image"):
        manifest.read(tmp_path / "manifest.gz")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_ed25519_key", True),
        ("/etc/ssh/ssh_host_*_key", "etc/ssh/ssh_host_a/b_key", False),
        ("/etc/machine-id", "etc/machine-id2", False),
        ("/etc/machine-id", "srv/etc/machine-id", False),
        ("/var/log/**", "var/log/a/b", True),
        ("/var/log/**", "var/log", False),
        ("/srv/a.b", "srv/axb", False),
        ("/data/\n*", "data/\nx", True),
    ],
)
def test_a_pattern_matches_a_whole_path(pattern: str, path: str, matches: bool) -> None:
    assert bool(Patterns({pattern: "reason"}).reason(path)) == matches


def test_a_pattern_for_a_folder_s_content_covers_the_folder() -> None:
    patterns = Patterns({"/home/*/**": "data", "/etc/x": "x"})
    assert [patterns.covers(path) for path in ("home/a", "home", "home/a/b", "etc/x")] == [True, False, False, False]


def test_no_pattern_matches_nothing() -> None:
    assert (Patterns({}).reason("etc"), Patterns({}).covers("etc")) == ("", False)
