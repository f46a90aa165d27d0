"""Which disk's root the initial RAM disk takes, with made-up machines: disks, the firmware's variables, blkid.

VAULT_CUBE_INITRD_SHELL: another shell, such as that of klibc-utils, which the initial RAM disk has.
"""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "salt/base/files/initramfs/root"
LOADER, GLOBAL = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "8be4df61-93ca-11d2-aa0d-00e098032b8c"
ESP, ROOT = "6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a02", "6f1d3c52-98a7-4c0e-8f57-2f9f3e1b7a03"
END = bytes([0x7F, 0xFF, 4, 0])

VDA = "pci0000:00/0000:00:02.0/virtio0/block/vda"
VDB = "pci0000:00/0000:00:03.0/virtio1/block/vdb"
NVME = "pci0000:20/0000:20:01.1/0000:21:00.0/nvme/nvme0/nvme0n1"
NVME2 = "pci0000:40/0000:40:01.1/0000:41:00.0/nvme/nvme1/nvme1n1"
SDA = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda"
SDB = "pci0000:00/0000:00:17.0/ata2/host1/target1:0:0/1:0:0:0/block/sdb"
STICK = "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdc"


def acpi(uid):
    """A node of a UEFI device path: PciRoot (UEFI 2.10, 10.3.3)."""
    return bytes([2, 1, 12, 0]) + bytes.fromhex("d041030a") + uid.to_bytes(4, "little")


def pci(device, function=0):
    return bytes([1, 1, 6, 0, function, device])


def sata(port):
    return bytes([3, 18, 10, 0]) + port.to_bytes(2, "little") + b"\xff\xff\0\0"


def short_form():
    """A node that names the partition by its number and id only (HD), as many firmwares store it."""
    return bytes([4, 1, 42, 0]) + bytes(38)


class Machine:
    """The files that the script reads, and the programs that it starts."""

    def __init__(self, folder):
        self.folder, self.sys, self.bin = folder, folder / "sys", folder / "bin"
        for path in (self.sys / "class/block", self.sys / "firmware/efi/efivars", self.bin, folder / "dev"):
            path.mkdir(parents=True)
        self.tool("blkid", f'f="{folder}/ids/${{6##*/}}"; [ -e "$f" ] && cat "$f"')
        self.tool("sleep", f'[ ! -x "{folder}/later" ] || "{folder}/later"')
        (folder / "ids").mkdir()
        (folder / "scripts").mkdir()

    def tool(self, name, script):
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def disk(self, place, ids=(ESP, ROOT), uid=None, port=None):
        """Add a disk with one partition per id.

        uid: number of the PCI root, if the kernel knows it. port: of SATA, from 1.
        """
        whole = self.sys / "devices" / place
        for number, identifier in enumerate(ids, 1):
            name = f"{whole.name}p{number}" if whole.name[-1].isdigit() else f"{whole.name}{number}"
            (whole / name).mkdir(parents=True)
            (whole / name / "partition").write_text(f"{number}\n")
            (self.folder / "ids" / name).write_text(f"{identifier}\n")
            (self.sys / "class/block" / name).symlink_to(whole / name)
        (self.sys / "class/block" / whole.name).symlink_to(whole)
        if uid is not None:
            node = self.sys / "devices" / place.partition("/")[0] / "firmware_node"
            node.mkdir(exist_ok=True)
            (node / "uid").write_text(f"{uid}\n")
        if port is not None:
            node = self.sys / "class/ata_port" / next(part for part in place.split("/") if part.startswith("ata"))
            node.mkdir(parents=True)
            (node / "port_no").write_text(f"{port}\n")
        return self

    def started(self, *nodes, esp=ESP):
        """Set the firmware's variables. nodes: the device path of the boot entry; without, the entry has none."""
        variables = {f"BootCurrent-{GLOBAL}": (0x1A).to_bytes(2, "little")}
        path = b"".join(nodes) + END
        entry = (1).to_bytes(4, "little") + len(path).to_bytes(2, "little") + "UEFI disk\0".encode("utf-16-le") + path
        variables[f"Boot001A-{GLOBAL}"] = entry
        if esp:
            variables[f"LoaderDevicePartUUID-{LOADER}"] = (esp.upper() + "\0").encode("utf-16-le")
        for name, data in variables.items():
            (self.sys / "firmware/efi/efivars" / name).write_bytes(bytes([7, 0, 0, 0]) + data)
        return self

    def later(self, script):
        """Run a shell script once the initial RAM disk waits."""
        (self.folder / "later").write_text(f"#!/bin/sh\n{script}\nrm '{self.folder}/later'\n")
        (self.folder / "later").chmod(0o755)

    def boot(self, root=f"PARTUUID={ROOT}"):
        """Run the script. Returns the root that it chose, without /dev, or the sentence with which it stopped."""
        parameters, dev = self.folder / "param.conf", self.folder / "dev"
        text = SCRIPT.read_text().replace("/scripts/functions", str(self.folder / "scripts/functions"))
        (self.folder / "scripts/functions").write_text('panic() { echo "panic: $*"; }\n')
        (self.folder / "script").write_text(text)
        shell = os.environ.get("VAULT_CUBE_INITRD_SHELL", "sh")
        ran = subprocess.run(
            [shell, self.folder / "script"], capture_output=True, text=True, check=False, cwd=self.folder,
            env={"PATH": f"{self.bin}:{os.environ['PATH']}", "SYS": str(self.sys), "DEV": str(dev), "ROOT": root,
                 "PARAMETERS": str(parameters), "WAIT_S": "12", "TESTING": "yes"},
        )  # fmt: skip
        assert not ran.stderr, ran.stderr
        if ran.returncode:
            sentence = ran.stdout.strip().removeprefix("panic: vault-cube: boot stopped: ")
            assert (dev / "kmsg").read_text() == f"<2>vault-cube: boot stopped: {sentence}\n"
            return sentence
        return parameters.read_text().strip().removeprefix(f"ROOT={dev}/") if parameters.exists() else None


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


TWO = "remove all but one"
NOVA = acpi(0)


def test_one_disk(machine):
    assert machine.disk(VDA).started(NOVA, pci(2)).boot() == "vda2"


def test_one_disk_of_which_the_firmware_reports_no_hardware_path(machine):
    assert machine.disk(NVME).started(short_form()).boot() == "nvme0n1p2"


@pytest.mark.parametrize(("device", "root"), [(2, "vda2"), (3, "vdb2")])
def test_two_disks_of_one_image_in_both_boot_orders(machine, device, root):
    assert machine.disk(VDA).disk(VDB).started(NOVA, pci(device)).boot() == root


@pytest.mark.parametrize(
    ("nodes", "root"),
    [
        ((acpi(2), pci(1, 1), pci(0)), "nvme0n1p2"),
        ((acpi(0), pci(20)), "sdc2"),
        ((acpi(4), pci(1, 1), pci(0)), "nvme1n1p2"),
    ],
)
def test_a_stick_and_two_nvme_disks_behind_bridges_alike(machine, nodes, root):
    machine.disk(STICK, uid=0).disk(NVME, uid=2).disk(NVME2, uid=4)
    assert machine.started(*nodes).boot() == root


def test_two_nvme_disks_alike_on_roots_that_the_kernel_does_not_number(machine):
    assert TWO in machine.disk(NVME).disk(NVME2).started(acpi(2), pci(1, 1), pci(0)).boot()


@pytest.mark.parametrize(("port", "root"), [(0, "sda2"), (1, "sdb2")])
def test_two_sata_disks_on_one_controller(machine, port, root):
    machine.disk(SDA, uid=0, port=1).disk(SDB, port=2)
    assert machine.started(NOVA, pci(0x17), sata(port)).boot() == root


def test_a_root_that_the_kernel_names_with_letters_may_be_any(machine):
    assert machine.disk(VDA, uid="PC00").disk(VDB).started(NOVA, pci(3)).boot() == "vdb2"


def test_two_disks_and_an_entry_that_names_the_partition_only(machine):
    sentence = machine.disk(STICK).disk(NVME).started(short_form()).boot()
    assert "the disks nvme0n1 sdc have the same partitions" in sentence or "sdc nvme0n1" in sentence
    assert TWO in sentence


def test_two_disks_with_ids_of_their_own(machine):
    machine.disk(NVME, (ESP.replace("7a02", "0000"), ROOT)).disk(STICK)
    assert machine.started(short_form()).boot() == "sdc2"


def test_a_disk_that_appears_late(machine):
    machine.disk(STICK).started(acpi(0), pci(20))
    hidden = machine.folder / "hidden"
    (machine.sys / "class/block").rename(hidden)
    (machine.sys / "class/block").mkdir()
    machine.later(f"rmdir '{machine.sys}/class/block'; mv '{hidden}' '{machine.sys}/class/block'")
    assert machine.boot() == "sdc2"


def test_the_started_disk_appears_after_another_one_of_the_same_image(machine):
    machine.disk(NVME).disk(STICK).started(acpi(0), pci(20))
    block = machine.sys / "class/block"
    for name in ("sdc", "sdc1", "sdc2"):
        (block / name).rename(machine.folder / name)
    machine.later(f"cd '{machine.folder}'; mv sdc sdc1 sdc2 '{block}'")
    assert machine.boot() == "sdc2"


def test_one_disk_at_another_path_than_the_firmware_s(machine):
    # a RAID controller may show the firmware another path
    assert machine.disk(SDA, port=1).started(NOVA, pci(0x1D), pci(0)).boot() == "sda2"


def test_the_started_disk_has_no_root(machine):
    sentence = machine.disk(VDA, (ESP,)).disk(VDB, ("0" * 36, ROOT)).started(NOVA, pci(2)).boot()
    assert sentence == f"the disk vda, which was started, has no root partition {ROOT}: write the image again"


def test_no_disk_has_the_started_partition(machine):
    assert "no disk has the partition" in machine.disk(VDA, ("0" * 36, ROOT)).started(NOVA, pci(2)).boot()


def test_without_the_firmware_s_variable_one_disk_boots_and_two_do_not(machine):
    machine.disk(VDA)
    assert machine.boot() == "vda2"
    (machine.folder / "param.conf").unlink()
    assert TWO in machine.disk(VDB).boot()


@pytest.mark.parametrize("data", [b"", b"\7\0\0\0", b"\7\0\0\0\xff\xff\xff", b"\7\0\0\0" + b"x\0" * 40])
def test_a_damaged_variable_counts_as_missing(machine, data):
    machine.disk(VDA).started(NOVA, pci(2))
    (machine.sys / f"firmware/efi/efivars/LoaderDevicePartUUID-{LOADER}").write_bytes(data)
    assert machine.boot() == "vda2"


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_boot_entry_that_is_cut_off_has_no_path(machine, cut):
    machine.disk(VDA).disk(VDB).started(NOVA, pci(2))
    entry = machine.sys / f"firmware/efi/efivars/Boot001A-{GLOBAL}"
    entry.write_bytes(entry.read_bytes()[:cut])
    assert TWO in machine.boot()


@pytest.mark.parametrize("root", ["/dev/sda2", "LABEL=root", "UUID=abc", ""])
def test_another_root_of_the_command_line_is_kept(machine, root):
    assert machine.disk(VDA).disk(VDB).started(NOVA, pci(2)).boot(root) is None
