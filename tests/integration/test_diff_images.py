"""image.diff on small images with known differences; it uses no mount and no loop device."""

import os
import shutil
import subprocess

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.inspect import diff
from vault_cube.image.layers import chroot, tools

pytestmark = [
    pytest.mark.chroot,
    pytest.mark.skipif(os.geteuid() != 0, reason="running commands in the tools tree needs root"),
]

SCRIPT = """\
cd /run/work
truncate -s 40M disk.raw
sfdisk --quiet disk.raw <<EOF
label: gpt
label-id: 00000000-0000-4000-8000-000000000001
start=2048, size=8192, type=uefi, uuid=00000000-0000-4000-8000-000000000002, name=esp
start=10240, size=65536, type=linux-root-x86-64, uuid=00000000-0000-4000-8000-000000000003, name=root
EOF
truncate -s 4M esp.img
mkfs.vfat -F 12 -n ESP -i 12345678 --invariant esp.img
mcopy -m -i esp.img efi.txt ::efi.txt
dd if=esp.img of=disk.raw bs=1M seek=1 conv=notrunc status=none
mke2fs -q -F -t ext4 -b 4096 -U 00000000-0000-4000-8000-000000000004 \
  -E "offset=5242880,hash_seed=00000000-0000-4000-8000-000000000005,root_owner=0:0" -d tree disk.raw 8192
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
zstd -q -f disk.raw
"""
STATUS = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: {}\n"


@pytest.fixture
def image(space, tmp_path):
    """image(name, {path: content}, esp) makes a folder with an image as disk.raw, disk.raw.zst and disk.qcow2."""

    def make(name, files, esp="the same"):
        folder = tmp_path / name
        for path, content in files.items():
            file = folder / "tree" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        (folder / "efi.txt").write_text(esp)
        (folder / "tree/usr/bin/link").symlink_to("tool")
        for path in folder.rglob("*"):
            os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
        chroot.run(
            tools.tree(space), ["sh", "-euc", SCRIPT], what="a small image", log=tmp_path / "log",
            binds=[chroot.Bind(folder, "/run/work", writable=True)],
            environment={"SOURCE_DATE_EPOCH": "1700000000", "MTOOLS_SKIP_CHECK": "1"},
        )  # fmt: skip
        return folder

    return make


BASE = {
    "etc/motd": "hello\n",
    "etc/deep/er/file": "x",
    "usr/bin/tool": "a" * 5000,
    "var/lib/dpkg/status": STATUS.format("5.1"),
}


def test_images_of_the_same_files_are_equal_in_every_format(space, image):
    one, two = image("one", BASE), image("two", BASE)
    for form in ("disk.raw", "disk.raw.zst", "disk.qcow2"):
        assert diff.diff(space, one / form, two / form) == []
    # two formats of the same disk are equal, too
    assert diff.diff(space, one / "disk.qcow2", two / "disk.raw.zst") == []


def test_known_differences_are_listed_line_by_line(space, image):
    one = image("one", BASE)
    two = image("two", BASE | {"etc/motd": "hello world\n", "etc/new": "", "usr/bin/tool": "a" * 4999 + "b"}, "other!")
    lines = diff.diff(space, one / "disk.qcow2", two / "disk.raw")
    assert lines[:-1] == [
        "~ efi/efi.txt: size 8 → 6; content from byte 0: 74 68 65 20 73 61 6d 65, 6f 74 68 65 72 21",
        "~ etc/motd: size 6 → 12; content from byte 5: 0a, 20 77 6f 72 6c 64 0a",
        "    -hello",
        "    +hello world",
        "+ etc/new",
        "~ usr/bin/tool: content from byte 4999: 61, 62",
    ]
    assert lines[-1].startswith("disk from byte ")
    assert "(partition esp)" in lines[-1]


def test_a_flipped_bit_on_the_disk_is_traced_to_its_file(space, image, tmp_path):
    one = image("one", BASE)
    shutil.copyfile(one / "disk.raw", tmp_path / "flipped.raw")
    with (tmp_path / "flipped.raw").open("r+b") as disk:
        at = disk.read().index(b"a" * 4096) + 100
        disk.seek(at)
        disk.write(b"\x60")
    assert diff.diff(space, one / "disk.raw", tmp_path / "flipped.raw") == [
        f"~ usr/bin/tool: content from byte 100: {'61 ' * 7}61, 60 {'61 ' * 6}61",
        f"disk from byte {at}: {'61 ' * 7}61, 60 {'61 ' * 6}61 (partition root, in /usr/bin/tool)",
    ]


def test_a_difference_outside_all_files_is_listed(space, image, tmp_path):
    one = image("one", BASE)
    shutil.copyfile(one / "disk.raw", tmp_path / "flipped.raw")
    with (tmp_path / "flipped.raw").open("r+b") as disk:
        disk.seek(5 * (1 << 20) + 1024 + 0x78)  # the volume's name in the superblock
        disk.write(b"named")
    lines = diff.diff(space, one / "disk.raw", tmp_path / "flipped.raw")
    assert len(lines) == 1
    assert lines[0].startswith(f"disk from byte {5 * (1 << 20) + 1024 + 0x78}: ")
    assert lines[0].endswith("(partition root, in the file system's metadata)")


def test_a_file_that_is_no_image_is_an_error_of_one_line(space, image, tmp_path):
    one = image("one", BASE)
    (tmp_path / "noise").write_bytes(b"noise" * 1000)
    with pytest.raises(VaultCubeError, match=r"noise: not a disk image: it has no partition table$"):
        diff.diff(space, one / "disk.raw", tmp_path / "noise")
    with pytest.raises(VaultCubeError, match="nowhere: no such image or folder"):
        diff.diff(space, one / "disk.raw", tmp_path / "nowhere")
    with pytest.raises(VaultCubeError, match="name two images or two folders"):
        diff.diff(space, one / "disk.raw", one / "tree")


def test_no_mount_and_no_scratch_folder_is_left(space, image):
    one = image("one", BASE)
    before = subprocess.check_output(["findmnt", "-rn"])
    diff.diff(space, one / "disk.raw", one / "disk.qcow2")
    assert subprocess.check_output(["findmnt", "-rn"]) == before
    assert not list((space.cache / "work").glob(f"*-diff-{os.getpid()}*"))
