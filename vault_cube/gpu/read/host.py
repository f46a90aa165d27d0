"""What the kernel reports about the GPUs without NVML: reads files only, and works without a driver."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vault_cube.gpu.nvml.plausible import printable

if TYPE_CHECKING:
    from vault_cube.gpu.fields import PciGpu, ProcessOrigin, Versions

NVIDIA = "0x10de"  # PCI vendor id, pcisig.com
DISPLAY = ("0x0300", "0x0302")  # PCI class: VGA controller, 3D controller


class Host:
    """The machine. root: folder that contains /proc, /sys and /dev; tests have their own."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def text(self, path: str) -> str | None:
        """Return the content of a file; None if it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace").strip()
        except OSError:
            return None

    def folder(self, path: str) -> list[Path]:
        """List a folder, sorted; empty if it does not exist."""
        try:
            return sorted((self.root / path.lstrip("/")).iterdir())
        except OSError:
            return []


def driver_module(machine: Host) -> Versions:
    """Return version and flavour of the loaded kernel module; empty if none is loaded."""
    text = machine.text("/proc/driver/nvidia/version")
    if not text:
        return {}
    line = text.splitlines()[0]
    module: Versions = {"kernel_module": "open" if "Open Kernel Module" in line else "proprietary"}
    if version := re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", line):
        module["kernel_module_version"] = version[1]
    return module


def pci_gpus(machine: Host) -> list[PciGpu]:
    """List NVIDIA's GPUs on the PCI bus; `driver` is absent if no driver is bound."""
    gpus: list[PciGpu] = []
    for folder in machine.folder("/sys/bus/pci/devices"):
        device = f"/sys/bus/pci/devices/{folder.name}"
        pci_class = machine.text(f"{device}/class") or ""
        if machine.text(f"{device}/vendor") != NVIDIA or pci_class[:6] not in DISPLAY:
            continue
        gpu: PciGpu = {"bus_id": folder.name, "device_id": machine.text(f"{device}/device") or ""}
        driver = folder / "driver"
        if driver.exists():
            gpu["driver"] = driver.resolve().name
        gpus.append(gpu)
    return gpus


def sysfs(bus_id: str) -> str:
    """Convert NVML's name of a device to that of sysfs: 00000000:11:00.0 → 0000:11:00.0. Other text stays as it is."""
    domain, colon, rest = bus_id.lower().partition(":")
    try:
        return f"{int(domain, 16):04x}:{rest}" if colon else bus_id
    except ValueError:
        return bus_id


def slot(bus_id: str) -> tuple[int, ...]:
    """Return domain, bus and device of a PCI address, however it is written; empty for a text that is none.

    NVML writes 00000000:01:00.0, sysfs 0000:01:00.0, the driver's log 0000:01:00.
    """
    match = re.fullmatch(r"([0-9a-f]+):([0-9a-f]+):([0-9a-f]+)(?:\.[0-7])?", bus_id.lower())
    return tuple(int(part, 16) for part in match.groups()) if match else ()


def aer(machine: Host, bus_id: str) -> dict[str, int]:
    """Return the PCIe errors of a device since boot: correctable, nonfatal, fatal; empty if they are not counted."""
    counts = {}
    for kind, total in (("correctable", "COR"), ("nonfatal", "NONFATAL"), ("fatal", "FATAL")):
        text = machine.text(f"/sys/bus/pci/devices/{sysfs(bus_id)}/aer_dev_{kind}") or ""
        number = re.search(rf"TOTAL_ERR_{total} (\d+)", text)
        if number:
            counts[kind] = int(number[1])
    return counts


def numa_node(machine: Host, bus_id: str) -> int | None:
    """Return the NUMA node of a device's slot; None on a machine with a single node."""
    node = machine.text(f"/sys/bus/pci/devices/{sysfs(bus_id)}/numa_node")
    return int(node) if node and node != "-1" else None


def cpus(machine: Host, bus_id: str) -> str | None:
    """Return the processors near a device, such as 0-15,32-47."""
    return machine.text(f"/sys/bus/pci/devices/{sysfs(bus_id)}/local_cpulist") or None


def iommu(machine: Host, bus_id: str) -> str | None:
    """Return how the IOMMU treats a device: identity, DMA, DMA-FQ …; None without an IOMMU."""
    return machine.text(f"/sys/bus/pci/devices/{sysfs(bus_id)}/iommu_group/type")


def redirecting_bridges(machine: Host, bus_id: str) -> list[str] | None:
    """List the bridges above a device that redirect peer-to-peer traffic to the processor (ACS); None if not readable.

    Source: PCI Express Base Specification, "ACS Extended Capability": id 0x000D, control register at offset 6, bits P2P
    request redirect (2), P2P completion redirect (3), upstream forwarding (4).
    """
    try:
        path = (machine.root / f"sys/bus/pci/devices/{sysfs(bus_id)}").resolve()
        bridges = [
            folder for folder in path.parents if re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d", folder.name)
        ]
        configs = {bridge.name: (bridge / "config").read_bytes() for bridge in bridges}
    except OSError:
        return None
    # other users than root can read only the first 64 bytes
    if any(len(config) < 0x104 for config in configs.values()):
        return None
    return sorted(name for name, config in configs.items() if _acs_control(config) & 0b11100)


def _acs_control(config: bytes) -> int:
    at = 0x100
    for _ in range(64):
        header = int.from_bytes(config[at : at + 4], "little")
        if header & 0xFFFF == 0x000D:
            return int.from_bytes(config[at + 6 : at + 8], "little")
        at = header >> 20
        if at < 0x100:
            break
    return 0


def secure_boot(machine: Host) -> bool | None:
    """Return whether Secure Boot is on; None if the machine was not booted by UEFI."""
    for file in machine.folder("/sys/firmware/efi/efivars"):
        if file.name.startswith("SecureBoot-"):
            try:
                # four bytes of attributes, then the value (UEFI specification, "Globally Defined Variables")
                return file.read_bytes()[4:5] == b"\x01"
            except OSError:
                return None
    return None


def uptime_s(machine: Host) -> float | None:
    """Return the uptime in seconds; None if the kernel does not report it."""
    text = (machine.text("/proc/uptime") or "").split()
    try:
        return float(text[0]) if text else None
    except ValueError:
        return None


def amd(machine: Host) -> bool:
    """Return whether the processor is from AMD."""
    return bool(re.search(r"^vendor_id\s*:\s*AuthenticAMD", machine.text("/proc/cpuinfo") or "", re.MULTILINE))


def device_files(machine: Host, minors: Sequence[int]) -> dict[str, str]:
    """Describe what is wrong with the driver's device files, by path; empty if all exist and every user may open them.

    minors: the GPUs' minor numbers. Without /dev/nvidiactl there are no device files at all, and the result is empty.
    """
    if not (machine.root / "dev/nvidiactl").exists():
        return {}
    wrong = {}
    for path in ("dev/nvidiactl", "dev/nvidia-uvm", *(f"dev/nvidia{minor}" for minor in minors)):
        try:
            mode = (machine.root / path).stat().st_mode
        except OSError:
            wrong[f"/{path}"] = "is missing"
            continue
        if mode & 0o006 != 0o006:
            wrong[f"/{path}"] = f"has mode {mode & 0o777:o}"
    return wrong


def loaded_modules(machine: Host) -> set[str]:
    """Return the names of the loaded kernel modules."""
    return {line.split()[0] for line in (machine.text("/proc/modules") or "").splitlines() if line}


def process(machine: Host, pid: int) -> ProcessOrigin | None:
    """Return a process's name and where it runs: container, service or session; None if there is no such process."""
    name = machine.text(f"/proc/{pid}/comm")
    if name is None:
        return None
    # a process chooses its own name, which must not contain line breaks
    name = printable(name)
    group = (machine.text(f"/proc/{pid}/cgroup") or "").splitlines()
    path = group[-1].rpartition(":")[2] if group else ""
    if re.search(r"docker|containerd|libpod|kubepods|crio|lxc", path):
        where = "container"
    elif re.search(r"^/system\.slice/.*\.service", path):
        where = "service"
    else:
        where = "session"
    return {"name": name, "where": where}
