"""vmdk, vhdx and ova: the disk's content, and the same bytes in every build, with the qemu-img of a tools tree."""

import hashlib
import os
import random
import shutil
import struct
import tarfile
import time
import xml.etree.ElementTree as ET

import pytest

from vault_cube import process
from vault_cube.image.disk import converted
from vault_cube.image.guest.qemu import Qemu
from vault_cube.image.workspace import default_cache

SIZE = 48 << 20
NAME = "vault-cube-demo-box-1.0.0-debian-12"


@pytest.fixture(scope="module")
def qemu():
    """qemu-img: command words and environment."""
    trees = [file.parents[2] for file in default_cache().glob("layers/*/tree/usr/bin/qemu-img")]
    if trees:
        chosen = Qemu.of_tree(trees[0])
        return chosen.image, {**os.environ, **chosen.environment}
    if not shutil.which("qemu-img"):
        pytest.skip("no tools tree in the cache, and no qemu-img here")
    return ("qemu-img",), dict(os.environ)


def raw_in(folder, seed=1):
    """Write a raw disk of random data, text and holes."""
    folder.mkdir()
    path, source = folder / "disk.raw", random.Random(seed)
    with path.open("wb") as disk:
        disk.truncate(SIZE)
        for place in range(0, SIZE, 9 << 20):
            disk.seek(place)
            disk.write(source.randbytes(200_000) + b"text " * 20_000)
    return converted.Raw(path, hashlib.sha256(path.read_bytes()).hexdigest(), NAME, 1_700_000_000)


def made(qemu, folder, form, seed=1):
    raw = raw_in(folder, seed)
    file = folder / f"{NAME}.{form}"
    converted.make(raw, file, *qemu, folder / "log")
    assert sorted(path.name for path in folder.iterdir()) == sorted(["disk.raw", file.name, "log"])
    return raw, file


@pytest.mark.parametrize("form", converted.FORMS)
def test_two_builds_give_the_same_bytes(qemu, tmp_path, form):
    _, first = made(qemu, tmp_path / "one", form)
    if form == "vmdk":
        time.sleep(1.1)  # its content id is the time, in seconds
    _, second = made(qemu, tmp_path / "another folder", form)
    assert first.read_bytes() == second.read_bytes()
    _, other = made(qemu, tmp_path / "other", form, seed=2)
    assert other.read_bytes() != first.read_bytes()


@pytest.mark.parametrize("form", converted.OPTIONS)
def test_the_content_is_that_of_the_disk_and_the_file_is_sound(qemu, tmp_path, form):
    raw, file = made(qemu, tmp_path / "one", form)
    process.run([*qemu[0], "compare", "-f", "raw", "-F", form, raw.path, file], env=qemu[1])
    process.run([*qemu[0], "check", "-f", form, file], env=qemu[1])


def test_identifiers_of_different_disks_differ(qemu, tmp_path):
    headers = set()
    for seed in (1, 2):
        _, file = made(qemu, tmp_path / str(seed), "vhdx", seed)
        with file.open("rb") as disk:
            disk.seek(converted.HEADERS[0])
            headers.add(disk.read(48)[16:])
    assert len(headers) == 2


def test_the_current_header_of_a_vhdx_stays_the_current_one(qemu, tmp_path):
    _, file = made(qemu, tmp_path / "one", "vhdx")
    data = file.read_bytes()
    numbers = [struct.unpack_from("<Q", data, place + 8)[0] for place in converted.HEADERS]
    assert sorted(numbers) == [1, 2]


def test_an_appliance_has_its_description_first_and_checksums_of_all_files(qemu, tmp_path):
    raw, file = made(qemu, tmp_path / "one", "ova")
    with tarfile.open(file) as tar:
        assert tar.getnames() == [f"{NAME}.ovf", f"{NAME}.mf", f"{NAME}-disk1.vmdk"]
        assert {(entry.mtime, entry.uid, entry.uname, entry.mode) for entry in tar} == {(raw.epoch, 0, "", 0o644)}
        content = {name: tar.extractfile(name).read() for name in tar.getnames()}
    listed = dict(line[7:].split(")= ") for line in content[f"{NAME}.mf"].decode().splitlines())
    assert listed == {name: hashlib.sha256(content[name]).hexdigest() for name in (f"{NAME}.ovf", f"{NAME}-disk1.vmdk")}
    spaces = {"ovf": "http://schemas.dmtf.org/ovf/envelope/1", "vmw": "http://www.vmware.com/schema/ovf"}
    root = ET.fromstring(content[f"{NAME}.ovf"])
    disk, reference = root.find(".//ovf:Disk", spaces), root.find(".//ovf:File", spaces)
    assert disk.get(f"{{{spaces['ovf']}}}capacity") == str(SIZE)
    assert reference.get(f"{{{spaces['ovf']}}}size") == str(len(content[f"{NAME}-disk1.vmdk"]))
    settings = {entry.get(f"{{{spaces['vmw']}}}key"): entry.get(f"{{{spaces['vmw']}}}value")
                for entry in root.findall(".//vmw:Config", spaces)}  # fmt: skip
    assert settings == {"firmware": "efi", "bootOptions.efiSecureBootEnabled": "false"}


@pytest.mark.parametrize(("data", "crc"), [
    # RFC 3720, B.4
    (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"123456789", 0xE3069283),
])  # fmt: skip
def test_the_checksum_is_crc32c(data, crc):
    assert converted.crc32c(data) == crc
