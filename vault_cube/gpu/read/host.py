"""What the kernel says of the GPUs without NVML: reads files only, and works where there is no driver."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vault_cube.gpu.nvml.plausible import printable

NVIDIA = "0x10de"  # PCI vendor id, pcisig.com
DISPLAY = ("0x0300", "0x0302")  # PCI class: VGA controller, 3D controller


class Host:
    """The machine; a test gives a folder with /proc and /sys of its own."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def text(self, path: str) -> str | None:
        """A file's content, or None."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace").strip()
        except OSError:
            return None

    def folder(self, path: str) -> list[Path]:
        """What lies in a folder, sorted; nothing where there is none."""
        try:
            return sorted((self.root / path.lstrip("/")).iterdir())
        except OSError:
            return []


def driver_module(machine: Host) -> dict[str, Any]:
    """Version and flavour of the loaded kernel module: kernel_module_version, kernel_module; empty when none is."""
    said = machine.text("/proc/driver/nvidia/version")
    if not said:
        return {}
    line = said.splitlines()[0]
    found: dict[str, Any] = {"kernel_module": "open" if "Open Kernel Module" in line else "proprietary"}
    version = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", line)
    return found | ({"kernel_module_version": version[1]} if version else {})


def pci_gpus(machine: Host) -> list[dict[str, Any]]:
    """NVIDIA's GPUs on the PCI bus, with or without a driver: bus_id, device_id, driver (absent when none is bound)."""
    found = []
    for folder in machine.folder("/sys/bus/pci/devices"):
        read = {name: machine.text(f"/sys/bus/pci/devices/{folder.name}/{name}") for name in ("vendor", "class")}
        if read["vendor"] != NVIDIA or (read["class"] or "")[:6] not in DISPLAY:
            continue
        one = {"bus_id": folder.name, "device_id": machine.text(f"/sys/bus/pci/devices/{folder.name}/device") or ""}
        driver = folder / "driver"
        if driver.exists():
            one["driver"] = driver.resolve().name
        found.append(one)
    return found


def sysfs(bus_id: str) -> str:
    """Return sysfs' name of a device, from NVML's: 00000000:11:00.0 → 0000:11:00.0. A text that is no address stays."""
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
    """PCIe errors of a device since boot: correctable, nonfatal, fatal; empty where the kernel counts none."""
    found = {}
    for kind, total in (("correctable", "COR"), ("nonfatal", "NONFATAL"), ("fatal", "FATAL")):
        said = machine.text(f"/sys/bus/pci/devices/{sysfs(bus_id)}/aer_dev_{kind}") or ""
        number = re.search(rf"TOTAL_ERR_{total} (\d+)", said)
        if number:
            found[kind] = int(number[1])
    return found


def numa_node(machine: Host, bus_id: str) -> int | None:
    """The NUMA node of a device's slot; none on a machine that has one node only."""
    said = machine.text(f"/sys/bus/pci/devices/{sysfs(bus_id)}/numa_node")
    return int(said) if said and said != "-1" else None


def cpus(machine: Host, bus_id: str) -> str | None:
    """The processors near a device, as a list such as 0-15,32-47."""
    return machine.text(f"/sys/bus/pci/devices/{sysfs(bus_id)}/local_cpulist") or None


def iommu(machine: Host, bus_id: str) -> str | None:
    """How the IOMMU treats a device: identity, DMA, DMA-FQ …; none where there is no IOMMU."""
    return machine.text(f"/sys/bus/pci/devices/{sysfs(bus_id)}/iommu_group/type")


def redirecting_bridges(machine: Host, bus_id: str) -> list[str] | None:
    """Bridges above a device that send peer to peer traffic up to the processor (ACS); none where nobody may look.

    Source: PCI Express Base Specification, "ACS Extended Capability": id 0x000D, control register at offset 6, bits P2P
    request redirect (2), P2P completion redirect (3), upstream forwarding (4).
    """
    try:
        path = (machine.root / f"sys/bus/pci/devices/{sysfs(bus_id)}").resolve()
        bridges = [one for one in path.parents if re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d", one.name)]
        configs = {one.name: (one / "config").read_bytes() for one in bridges}
    except OSError:
        return None
    # without root only the first 64 bytes are shown
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
    """Whether Secure Boot is on; none on a machine that was not booted by UEFI."""
    for file in machine.folder("/sys/firmware/efi/efivars"):
        if file.name.startswith("SecureBoot-"):
            try:
                # four bytes of attributes, then the value (UEFI specification, "Globally Defined Variables")
                return file.read_bytes()[4:5] == b"\x01"
            except OSError:
                return None
    return None


def uptime_s(machine: Host) -> float | None:
    """How long the machine has been up, in seconds; None if the kernel does not say."""
    text = (machine.text("/proc/uptime") or "").split()
    try:
        return float(text[0]) if text else None
    except ValueError:
        return None


def amd(machine: Host) -> bool:
    """Whether the processor is AMD's."""
    return bool(re.search(r"^vendor_id\s*:\s*AuthenticAMD", machine.text("/proc/cpuinfo") or "", re.MULTILINE))


def device_files(machine: Host, minors: Sequence[int]) -> dict[str, str]:
    """What is wrong with the driver's device files, path → words; empty if all are there and anybody may use them.

    minors: the GPUs' minor numbers. A machine without /dev/nvidiactl has none of them: that is the driver's matter.
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
    """Names of the loaded kernel modules."""
    return {line.split()[0] for line in (machine.text("/proc/modules") or "").splitlines() if line}


def process(machine: Host, pid: int) -> dict[str, str] | None:
    """A process's name and where it runs: container, service, or session; none when there is no such process here."""
    name = machine.text(f"/proc/{pid}/comm")
    if name is None:
        return None
    # a process chooses its name: it must not draw lines in a table
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
