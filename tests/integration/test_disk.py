"""Compare a file system to which debugfs added the last layer with one that mke2fs makes of the whole tree."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import last_layer
import pytest

from vault_cube import tree_manifest
from vault_cube.image.disk import formats, raw_disk
from vault_cube.image.layers import chroot, seal, tools
from vault_cube.process import CommandFailed

pytestmark = [
    pytest.mark.chroot,
    pytest.mark.skipif(os.geteuid() != 0, reason="running commands in the tools tree needs root"),
]

EPOCH = 1_700_000_000
MAKE = """\
make() {
  truncate -s 80M "$2"
  mke2fs -q -F -t ext4 -b 4096 -I 256 -U 00000000-0000-4000-8000-000000000004 \\
    -E offset=1048576,hash_seed=00000000-0000-4000-8000-000000000005,lazy_itable_init=0,root_owner=0:0 \\
    -d "$1" "$2" 16384
}
"""
BOTH = f"""\
{MAKE}
make /run/below disk.raw
sh /run/disk/last_layer.sh
mv disk.raw written.raw
make /run/tree whole.raw
e2fsck -f -n 'whole.raw?offset=1048576'
for name in written whole; do
  debugfs -f look "$name.raw?offset=1048576" >"$name.stat" 2>/dev/null
  mkdir "$name"
  debugfs -R "rdump / $name" "$name.raw?offset=1048576" 2>/dev/null
done
"""


def in_tools(space, folder, script, overlays=(), binds=()):
    chroot.run(
        tools.tree(space),
        ["sh", "-euc", f"cd /run/work\n{script}"],
        what="a small disk",
        log=folder / "log",
        binds=[
            chroot.Bind(folder, "/run/work", writable=True),
            chroot.Bind(Path(last_layer.__file__), "/run/last_layer.py"),
            chroot.Bind(raw_disk.SCRIPTS, "/run/disk"),
            *binds,
        ],
        overlays=dict(overlays),
        environment={"SOURCE_DATE_EPOCH": str(EPOCH), "ROOT_START_MIB": "1"},
    )


@pytest.fixture(scope="module")
def both(space, tmp_path_factory):
    """A folder with two file systems of one tree, `written` and `whole`: their files, and the output of debugfs."""
    folder = tmp_path_factory.mktemp("disk")
    below, top, work = (folder / name for name in ("below", "top", "overlay"))
    for path in (below, top, work):
        path.mkdir()
    in_tools(space, folder, f"python3 -B /run/last_layer.py lower below {EPOCH}")
    in_tools(
        space,
        folder,
        f"python3 -B /run/last_layer.py upper /run/tree {EPOCH}\n"
        'cd /run/tree && find . -mindepth 1 | sed \'s/"/""/g; s/.*/stat "&"/\' | sort >/run/work/look',
        {"/run/tree": chroot.Overlay([below], top, work)},
    )
    for tree in (below, top):
        seal.times(tree, EPOCH)
    binds = [chroot.Bind(below, "/run/below"), chroot.Bind(top, "/run/top")]
    in_tools(space, folder, BOTH, {"/run/tree": chroot.Overlay([below, top])}, binds)
    return folder


def stat(folder, name):
    """Return debugfs' output for each file by its path, without inode and block numbers."""
    text = (folder / f"{name}.stat").read_text()
    entries = {}
    for part in text.split("debugfs: stat ")[1:]:
        path, _, rest = part.partition("\n")
        rest = re.sub(r"EXTENTS:\n.*", "", rest, flags=re.S)
        entries[path] = re.sub(r"^Inode: \d+ +|^Inode checksum: .*|Blockcount: \d+", "", rest, flags=re.M)
    return entries


def test_every_file_has_the_same_attributes_as_with_mke2fs(both):
    written, whole = stat(both, "written"), stat(both, "whole")
    assert len(whole) > 500
    assert written.keys() == whole.keys()
    assert {path: (written[path], whole[path]) for path in whole if written[path] != whole[path]} == {}


def test_all_files_and_their_contents_are_the_same_as_with_mke2fs(both):
    written, whole = (tree_manifest.entries(both / name) for name in ("written", "whole"))
    # rdump sets the times of links to the current time
    assert tree_manifest.differences(written, whole) == ["~ becomes-link: mtime", "~ link: mtime"]


def test_capabilities_and_attributes_are_written(both):
    attributes = stat(both, "written")
    assert "security.capability (20) = 01 00 00 02 00 20" in attributes['"./bin/new"']
    assert "security.capability" not in attributes['"./bin/ping"']
    assert "trusted.new" in attributes['"./attributes"']
    assert "trusted.old" not in attributes['"./attributes"']


def test_a_second_run_writes_the_same_bytes(space, both, tmp_path):
    binds = [chroot.Bind(both / "below", "/run/below"), chroot.Bind(both / "top", "/run/top")]
    tree = {"/run/tree": chroot.Overlay([both / "below", both / "top"])}
    in_tools(space, tmp_path, f"{MAKE}\nmake /run/below disk.raw\nsh /run/disk/last_layer.sh", tree, binds)
    assert (tmp_path / "disk.raw").read_bytes() == (both / "written.raw").read_bytes()


def test_a_disk_that_is_too_small_fails_the_build(space, both, tmp_path):
    """debugfs itself continues and exits with 0."""
    binds = [chroot.Bind(both / "below", "/run/below"), chroot.Bind(both / "top", "/run/top")]
    tree = {"/run/tree": chroot.Overlay([both / "below", both / "top"])}
    small = MAKE.replace("16384", "2600")
    with pytest.raises(CommandFailed, match="block"):
        in_tools(space, tmp_path, f"{small}\nmake /run/below disk.raw\nsh /run/disk/last_layer.sh", tree, binds)


def test_qemu_reads_the_qcow2_and_zstd_the_raw_zst(space, both, tmp_path):
    files = {form: tmp_path / f"disk.{form}" for form in formats.FORMS}
    formats.make(both / "written.raw", files, {}, tmp_path / "notes.json", tmp_path / "log")
    in_tools(
        space,
        tmp_path,
        "qemu-img check disk.qcow2\n"
        "qemu-img compare -f qcow2 -F raw disk.qcow2 /run/whole/written.raw\n"
        "zstd -q -t disk.raw.zst\n"
        "zstd -q -dc disk.raw.zst | cmp - /run/whole/written.raw\n",
        binds=[chroot.Bind(both, "/run/whole")],
    )


def test_a_sparse_file_is_copied_with_its_holes(tmp_path):
    source = tmp_path / "source"
    with source.open("wb") as out:
        for number in range(3):
            out.seek(number * (100 << 20))
            out.write(os.urandom((65 << 20) + number))
        out.truncate(400 << 20)
    raw_disk.copy_sparse(source, tmp_path / "target")
    assert (tmp_path / "target").stat().st_size == 400 << 20
    assert len({line.content for line in tree_manifest.parse(tree_manifest.entries(tmp_path)[1:])}) == 1
    assert (tmp_path / "target").stat().st_blocks <= source.stat().st_blocks + 64


def test_a_full_disk_during_the_copy_is_an_error(tmp_path):
    with (tmp_path / "source").open("wb") as out:
        out.write(os.urandom(5 << 20))
    script = (
        "import sys; from pathlib import Path; from vault_cube.image.disk import raw_disk\n"
        "try: raw_disk.copy_sparse(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except OSError as err: print(err.errno)"
    )
    (tmp_path / "small").mkdir()
    mount = f'mount -t tmpfs -o size=4000k tmpfs {tmp_path}/small && exec "$@"'
    copied = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", script, "source", "small/target"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(raw_disk.__file__).parents[3])}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert copied.stdout == f"{errno.ENOSPC}\n"
