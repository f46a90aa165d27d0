"""The fake NVML from Python: profiles of machines, and a file that a test rewrites while the library is in use."""

import ctypes
import os
import shutil
import subprocess
import time
from _ctypes import dlclose
from copy import deepcopy
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 1 << 30

# as nvidia-smi -q shows a card of its kind at rest; values of a real card where a public listing had them
RTX_5090 = {
    "name": "NVIDIA GeForce RTX 5090",
    "vbios": "98.02.2E.00.AB",
    "architecture": 10,
    "compute": {"major": 12, "minor": 0},
    "brand": 5,
    "pci": {"id": 0x2B8510DE, "subsystem": 0x205710DE},
    "memory": {"total": 32607 << 20, "used": 480 << 20, "reserved": 478 << 20},
    "memory_bus_width": 512,
    "cores": 21760,
    "bar1": {"total": 32768 << 20, "used": 12 << 20},
    "pcie": {"generation": 1, "width": 16, "generation_max": 5, "width_max": 16, "generation_gpu": 5, "replays": 0},
    "persistence": 1,
    "compute_mode": 0,
    "display_active": 0,
    "display_mode": 0,
    "performance_state": 8,
    "fans": 2,
    "fan": {0: 30, 1: 30},
    "power_mw": 24100,
    "power_limit_mw": 575000,
    "power_limit_set_mw": 575000,
    "power_limit_default_mw": 575000,
    "power_limit_min_mw": 400000,
    "power_limit_max_mw": 600000,
    "power_source": 0,
    "energy_mj": 81_000_000,
    "throttle": 0x1,
    "temperature": {0: 38},
    "threshold": {0: 95, 1: 92, 3: 90},
    "clock": {0: 210, 1: 210, 2: 405, 3: 630},
    "clock_max": {0: 3090, 1: 3090, 2: 14001, 3: 3090},
    "utilisation": {"gpu": 0, "memory": 0, "encoder": 0, "decoder": 0, "period": 167000},
    # a consumer card has rows to remap, and neither ECC counters nor MIG
    "remapped": {"corrected": 0, "uncorrected": 0, "pending": 0, "failed": 0},
    "violation": {0: 0, 1: 0, 3: 0},
    "uptime_us": 86_400_000_000,
    "numa_node": 0,
    "cpus": 0xFFFFFFFF,
    "gsp_firmware": "580.95.05",
    "clock_offset": {"graphics": 0, "memory": 0},
    "field": {230: 0},
}
H200 = RTX_5090 | {
    "name": "NVIDIA H200",
    "serial": "1652323012345",
    "part_number": "900-21010-0040-000",
    "vbios": "96.00.BC.00.01",
    "inforom": "G520.0292.00.01",
    "architecture": 9,
    "compute": {"major": 9, "minor": 0},
    "brand": 14,
    "pci": {"id": 0x233510DE, "subsystem": 0x18BE10DE},
    "memory": {"total": 143771 << 20, "used": 0},
    "memory_bus_width": 6144,
    "cores": 16896,
    "bar1": {"total": 262144 << 20, "used": 1 << 20},
    "pcie": {"generation": 5, "width": 16, "generation_max": 5, "width_max": 16, "generation_gpu": 5, "replays": 0},
    "histogram": {"max": 768, "high": 0, "partial": 0, "low": 0, "none": 0},
    "sram": {"exceeded": 0},
    "performance_state": 0,
    "fans": None,
    "fan": {},
    "power_mw": 76400,
    "power_limit_mw": 700000,
    "power_limit_set_mw": 700000,
    "power_limit_default_mw": 700000,
    "power_limit_min_mw": 200000,
    "power_limit_max_mw": 700000,
    "temperature": {0: 31},
    "threshold": {0: 95, 1: 92, 2: 95, 3: 87},
    "field": {82: 34, 230: 0},
    "clock": {0: 345, 1: 345, 2: 3201, 3: 345},
    "clock_max": {0: 1980, 1: 1980, 2: 3201, 3: 1980},
    "clock_chosen": {0: 1980, 1: 1980, 2: 3201},
    "clock_default": {0: 1980, 1: 1980, 2: 3201},
    "ecc": {
        "mode": 1,
        "pending": 1,
        "default": 1,
        "volatile": {"corrected": 0, "uncorrected": 0},
        "aggregate": {"corrected": 0, "uncorrected": 0},
    },
    "mig": {"mode": 0, "pending": 0, "most": 7},
    "nvlink": {link: {"state": 0} for link in range(18)},
}
RTX_4090 = RTX_5090 | {
    "name": "NVIDIA GeForce RTX 4090",
    "vbios": "95.02.3C.80.B9",
    "architecture": 8,
    "compute": {"major": 8, "minor": 9},
    "pci": {"id": 0x268410DE, "subsystem": 0x167C10DE},
    "memory": {"total": 24564 << 20, "used": 0},
    "pcie": {"generation": 1, "width": 16, "generation_max": 4, "width_max": 16, "generation_gpu": 4, "replays": 0},
    "power_limit_mw": 450000,
    "power_limit_set_mw": 450000,
    "power_limit_default_mw": 450000,
    # it has ECC, and ships with it off: nvidia-smi's column says `Off`
    "ecc": {"mode": 0, "pending": 0, "default": 0},
}
RTX_PRO_6000 = RTX_5090 | {
    "name": "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
    "vbios": "98.02.52.00.02",
    "brand": 13,
    "pci": {"id": 0x2BB110DE, "subsystem": 0x204B10DE},
    "memory": {"total": 97887 << 20, "used": 0},
    "bar1": {"total": 131072 << 20, "used": 1 << 20},
    "power_limit_mw": 600000,
    "power_limit_set_mw": 600000,
    "power_limit_default_mw": 600000,
    "ecc": H200["ecc"],
}
H100_NVL = H200 | {
    "name": "NVIDIA H100 NVL",
    "pci": {"id": 0x232110DE, "subsystem": 0x183910DE},
    "memory": {"total": 95830 << 20, "used": 0},
    "power_limit_mw": 400000,
    "power_limit_set_mw": 400000,
    "power_limit_default_mw": 400000,
    "power_limit_max_mw": 400000,
    # three bridges of four links; the others are on the chip and go nowhere (Azure/azurehpc-health-checks, issue 162)
    "nvlink": {link: {"state": int(link not in (4, 5, 10, 11, 16, 17))} for link in range(18)},
}

PROFILES = {
    "4x5090": [RTX_5090] * 4,
    "h200": [H200],
    "8 mixed": [RTX_5090, RTX_5090, RTX_4090, RTX_4090, H200, H200, RTX_5090, RTX_4090],
    "16x5090": [RTX_5090] * 16,
    "4x RTX PRO 6000": [RTX_PRO_6000] * 4,
    "2x H100 NVL": [H100_NVL] * 2,
    "none": [],
}


def machine(profile="4x5090"):
    """What the library answers for a machine at rest and in health."""
    gpus = []
    step = 0x20 if len(PROFILES[profile]) <= 8 else 0x0C
    for index, card in enumerate(PROFILES[profile]):
        others = [n for n in range(len(PROFILES[profile])) if n != index]
        gpus.append(
            deepcopy(card)
            | {
                "minor": index,
                "uuid": f"GPU-5eed0000-0000-4000-8000-{index:012x}",
                "bus_id": f"00000000:{0x11 + step * index:02X}:00.0",
                "ancestor": dict.fromkeys(others, 40),
                # GeForce has no P2P: NVML says that the chipset does not support it
                "p2p": {other: dict.fromkeys(range(4), int("GeForce" in card["name"])) for other in others},
            }
        )
    return {"driver_version": "580.95.05", "nvml_version": "13.580.95.05", "cuda_version": 13000, "gpus": gpus}


def flat(node, path=""):
    """The nested state as the lines that the library reads; what is None is left out."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    elif node is not None:
        yield path, int(node) if isinstance(node, bool) else node


class FakeNvml:
    """One machine's GPUs. Change `state` (or a GPU by `gpu(n)`), then `save()`: the library follows at once."""

    def __init__(self, file, library):
        self.file, self.library = Path(file), Path(library)
        self.state = machine()
        self.timed = []
        self.save()

    def profile(self, name):
        """Be another machine."""
        self.state, self.timed = machine(name), []
        self.save()

    def gpu(self, index, **fields):
        """Merge fields into a GPU's state and save; returns that state."""
        _merge(self.state["gpus"][index], fields)
        self.save()
        return self.state["gpus"][index]

    def every(self, **fields):
        """Merge fields into every GPU's state, and save once: no reader sees half of it."""
        for state in self.state["gpus"]:
            _merge(state, deepcopy(fields))
        self.save()

    def set(self, **fields):
        """Merge fields into the machine's state, such as error={"nvmlDeviceGetCount": 9}, and save.

        A driver's version is also its library's and its firmware's, unless they are given.
        """
        if "driver_version" in fields:
            fields.setdefault("nvml_version", f"13.{fields['driver_version']}")
            for gpu in self.state["gpus"]:
                gpu["gsp_firmware"] = fields["driver_version"]
        _merge(self.state, fields)
        self.save()

    def during(self, first_s, last_s, index=None, **fields):
        """A scenario: the fields (of a GPU, or of the machine) are so from first_s to last_s after `begin`.

        A text such as "40>90" goes from one number to the other in that time, and stays there; "-" is absent.
        """
        node = fields if index is None else {"gpu": {index: fields}}
        self.timed += [(f"{key}@{first_s},{last_s}", value) for key, value in flat(node)]
        self.save()

    def begin(self):
        """Start the scenario's clock."""
        self.state["since"] = time.time()
        self.save()

    def save(self):
        gpus = self.state["gpus"]
        state = {**self.state, "gpus": len(gpus), "gpu": dict(enumerate(gpus))}
        new = self.file.with_suffix(".new")
        new.write_text("".join(f"{key}={value}\n" for key, value in [*flat(state), *self.timed]))
        new.replace(self.file)

    @property
    def environment(self):
        """What a process of its own needs to find it."""
        return {"LD_LIBRARY_PATH": str(self.library.parent), "FAKE_NVML": str(self.file)}


def _merge(into, fields):
    for key, value in fields.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def compile_library(folder, *flags):
    """Compile the library into a folder; returns its path, or None where there is no compiler."""
    if not shutil.which("cc"):
        return None
    library = Path(folder) / "libnvidia-ml.so.1"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{library.name}", *flags]
    subprocess.run([*command, "-o", library, SOURCE], check=True)
    return library


class Loaded:
    """The library in this process: children that a session forks find it by its name. Undone at the end."""

    def __init__(self, fake):
        self.fake = fake

    def __enter__(self):
        os.environ["FAKE_NVML"] = str(self.fake.file)
        self.handle = ctypes.CDLL(str(self.fake.library))
        return self.fake

    def __exit__(self, *_):
        del os.environ["FAKE_NVML"]
        dlclose(self.handle._handle)
