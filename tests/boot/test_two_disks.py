"""Two disks of one image in one machine, in both boot orders, and a disk with sectors of 4096 bytes."""

import dataclasses
import json
import subprocess
import time

import pytest

from vault_cube.image.guest import machine
from vault_cube.image.guest.machine import Guest
from vault_cube.image.guest.qemu import Disk
from vault_cube.image.guest.seed import seed, vanishing

pytestmark = pytest.mark.slow
SECOND = "second"


def overlay(qemu, image, file, size):
    line = [
        *qemu.image,
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        Disk.of(image).form,
        "-b",
        image.resolve(),
        file,
        str(size),
    ]
    subprocess.run(line, check=True)
    return file


def disk(file, *options):
    """Return QEMU's words for a further disk."""
    device = ",".join(["virtio-blk-pci", "drive=second", f"serial={SECOND}", *options])
    return ("-drive", f"if=none,id=second,format=qcow2,cache=unsafe,file={file}", "-device", device)


@pytest.mark.parametrize("started", ["first", "second"])
def test_everything_is_on_the_disk_that_was_started(image, expected, qemu, hardware, tmp_path, started):
    grown = Disk.of(image).size + (2 << 30)
    with seed(expected.user, expected.ssh_port) as login, vanishing("two-disks") as work:
        # without a boot index, OVMF starts the disk with the lower PCI address
        options = ["bootindex=0"] if started == "second" else ["addr=0x1e"]
        run = machine.prepare(image, login, qemu, hardware, work, console=tmp_path / "console.log")
        run = dataclasses.replace(run, devices=disk(overlay(qemu, image, work / "second.qcow2", grown), *options))
        box = Guest(machine.start(qemu, hardware, run, "tcg", work), run, login, "tcg", work)
        try:
            box.wait_for_ssh()
            box.ssh("cloud-init status --wait; systemctl is-system-running --wait", timeout_s=1800, check=False)
            columns = "lsblk --json --bytes --output NAME,SERIAL,SIZE,MOUNTPOINTS"
            disks = json.loads(box.ssh(f"sudo ls /efi/EFI/BOOT >/dev/null && {columns}").stdout)["blockdevices"]
        finally:
            box.kill()
    # the seed's disk has one partition
    disks = [whole for whole in disks if len(whole.get("children", ())) == 2]
    disks = {"second" if whole["serial"] == SECOND else "first": whole for whole in disks}
    assert set(disks) == {"first", "second"}
    mounted = {
        name: {place for part in whole["children"] for place in part["mountpoints"] if place}
        for name, whole in disks.items()
    }
    other = "first" if started == "second" else "second"
    assert mounted == {started: {"/", "/efi"}, other: set()}
    # only the root of the disk that was started has grown
    free = {name: whole["size"] - sum(part["size"] for part in whole["children"]) for name, whole in disks.items()}
    assert free[started] < 64 << 20
    assert free[other] > 1 << 30


def test_a_disk_with_sectors_of_4096_bytes_is_not_started(image, expected, qemu, hardware, tmp_path):
    """The guide says so: its partition table is written for sectors of 512 bytes."""
    blank = tmp_path / "blank.raw"
    with blank.open("wb") as opened:
        opened.truncate(64 << 20)
    with seed(expected.user, expected.ssh_port) as login, vanishing("4kn") as work:
        run = machine.prepare(blank, login, qemu, hardware, work, console=tmp_path / "console.log")
        file = overlay(qemu, image, work / "second.qcow2", Disk.of(image).size)
        sectors = ("logical_block_size=4096", "physical_block_size=4096", "bootindex=0")
        run = dataclasses.replace(run, devices=disk(file, *sectors))
        process = machine.start(qemu, hardware, run, "tcg", work)
        try:
            until = time.monotonic() + 300
            while b"failed to load" not in run.console.read_bytes() and time.monotonic() < until:
                assert process.poll() is None
                time.sleep(2)
        finally:
            process.kill()
            process.wait()
        text = run.console.read_bytes()
    assert b"failed to load" in text
    assert b"Linux version" not in text
