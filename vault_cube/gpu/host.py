"""What the kernel says of the GPUs without NVML: reads files only, and works where there is no driver."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NVIDIA = "0x10de"  # PCI vendor id, pcisig.com
DISPLAY = ("0x0300", "0x0302")  # PCI class: VGA controller, 3D controller


@dataclass(frozen=True)
class Host:
    """The machine; a test gives a folder with /proc and /sys of its own. live: whether commands may be run, too."""

    root: Path = Path("/")

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
