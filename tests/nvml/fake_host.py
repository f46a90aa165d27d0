"""A machine's /proc and /sys as the kernel shows them beside the fake NVML, below a folder of a test's own."""

import time
from pathlib import Path

from vault_cube.gpu.read.host import Host, sysfs

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22-I3)"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025"


class FakeHost(Host):
    """The files of a healthy box with the fake's GPUs; `write` changes one."""

    @classmethod
    def make(cls, root, gpus):
        host = cls(Path(root))
        host.write("proc/driver/nvidia/version", OPEN)
        host.write("proc/modules", "nvidia_uvm 2088960 0 - Live 0x0\nnvidia 14553088 5 nvidia_uvm, Live 0x0\n")
        host.write("kernel.log", "")
        host.write("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\6\0\0\0\0")
        (host.root / "sys/bus/pci/drivers/nvidia").mkdir(parents=True, exist_ok=True)
        for gpu in gpus:
            host.add_gpu(gpu["bus_id"])
        return host

    def add_gpu(self, bus_id, driver="nvidia"):
        """A card behind a bridge of its own."""
        name = sysfs(bus_id)
        bus = int(name[5:7], 16)
        device = f"sys/devices/pci0000:{bus - 1:02x}/0000:{bus - 1:02x}:01.0/{name}"
        self.write(f"{device}/../config", bytes(4096))
        for file, text in {
            "vendor": "0x10de",
            "class": "0x030000",
            "device": "0x2b85",
            "numa_node": "-1",
            "local_cpulist": "0-63",
            "iommu_group/type": "identity",
            "aer_dev_fatal": "DLP 0\nTOTAL_ERR_FATAL 0",
            "aer_dev_nonfatal": "TOTAL_ERR_NONFATAL 0",
            "aer_dev_correctable": "RxErr 0\nTOTAL_ERR_COR 0",
        }.items():
            self.write(f"{device}/{file}", text)
        self.write(f"{device}/config", bytes(4096))
        (self.root / "sys/bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (self.root / device / "driver").symlink_to(self.root / "sys/bus/pci/drivers" / driver)
        link = self.root / "sys/bus/pci/devices" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.root / device)

    def write(self, path, content):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def redirect(self, bus_id):
        """Switch ACS redirection on at the bridge above a card."""
        bridge = (self.root / "sys/bus/pci/devices" / sysfs(bus_id)).resolve().parent
        config = bytearray(4096)
        config[0x100:0x104] = (0x000D | 1 << 16).to_bytes(4, "little")
        config[0x106:0x108] = (0b11101).to_bytes(2, "little")
        (bridge / "config").write_bytes(config)

    def xid(self, bus_id, code, message, hours_ago=0.1, instance="", log="kernel.log"):
        """An XID in the kernel's log. instance: " GPU-I:05" or " GPU-I:05 GPU-CI:02", as with MIG."""
        self.kernel_line(f"NVRM: Xid (PCI:{sysfs(bus_id)[:-2]}{instance}): {code}, {message}", hours_ago, log)

    def kernel_line(self, text, hours_ago=0.1, log="kernel.log"):
        """A line of the kernel's log as journalctl gives it. log: kernel.log.1 is that of the boot before."""
        file = self.root / log
        before = file.read_text() if file.exists() else ""
        file.write_text(f"{before}{time.time() - hours_ago * 3600:.6f} box kernel: {text}\n")

    def process(self, pid, name, cgroup):
        self.write(f"proc/{pid}/comm", f"{name}\n")
        self.write(f"proc/{pid}/cgroup", f"0::{cgroup}\n")
