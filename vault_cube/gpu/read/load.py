"""What a PCIe link reaches while it is kept busy: an idle one drops to generation 1."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import copying, host, readings
from vault_cube.gpu.read.facts import text

START_S = 20.0
"""CUDA opens a GPU in under a second; without persistence it wakes it first."""


def under_load(session: Session, seconds: float) -> dict[int, dict[str, Any]]:
    """GPU → the best generation and width that were seen under load and the replays in that time, or `problem`.

    `problem` says why there was no load. seconds: how long the load lasts once it runs. Raises NvmlProblem.
    """
    gpus = session.each(_link)
    if any(gpu.get("kind") == "hang" for gpu in gpus):
        # CUDA initialises all GPUs, and would hang, too
        return {gpu["index"]: {"problem": "no load: a GPU of this box hangs"} for gpu in gpus if "problem" not in gpu}
    addresses = {gpu["index"]: host.sysfs(gpu["bus_id"]) for gpu in gpus if "problem" not in gpu and "bus_id" in gpu}
    before = {gpu["index"]: gpu["replays"] for gpu in gpus if "replays" in gpu}
    command = [sys.executable, "-I", "-S", str(Path(copying.__file__)), str(START_S + seconds)]
    command += [f"{index}={address}" for index, address in addresses.items()]
    loaded: dict[int, dict[str, Any]] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as load:
        hung = threading.Timer(START_S, load.kill)
        hung.start()
        try:
            loaded = _started(load, list(addresses))
            hung.cancel()
            until = time.monotonic() + seconds
            while any("problem" not in gpu for gpu in loaded.values()) and time.monotonic() < until:
                for gpu in session.each(_link):
                    best = loaded.get(gpu["index"], {})
                    if "problem" not in best:
                        _merge(best, gpu, before)
                time.sleep(0.05)
        finally:
            hung.cancel()
            load.kill()
    without = [gpu["index"] for gpu in gpus if "problem" not in gpu and "bus_id" not in gpu]
    return loaded | {index: {"problem": "no load: the GPU gives no PCI address"} for index in without}


def _merge(best: dict[str, Any], now: dict[str, Any], before: dict[int, int]) -> None:
    for name in ("generation", "width"):
        if name in now:
            best[name] = max(best.get(name, 0), now[name])
    if "replays" in now and now["index"] in before:
        best["replays"] = max(0, now["replays"] - before[now["index"]])


def _started(load: subprocess.Popen[str], indices: list[int]) -> dict[int, dict[str, Any]]:
    """Wait until every GPU is busy, or cannot be."""
    found: dict[int, dict[str, Any]] = {}
    assert load.stdout is not None  # noqa: S101 we asked for it
    for line in load.stdout:
        index, _, said = line.strip().partition(" ")
        found[int(index)] = {} if said == "ready" else {"problem": f"no load could be put on it: {said}"}
        if len(found) == len(indices):
            break
    missing = [index for index in indices if index not in found]
    return found | {index: {"problem": "no load could be put on it: the program ended"} for index in missing}


def _link(device: Device) -> dict[str, Any]:
    ask, pci = device.ask, device.ask("nvmlDeviceGetPciInfo")
    return readings.present(
        bus_id=None if pci is None else text(pci.busId),
        generation=ask("nvmlDeviceGetCurrPcieLinkGeneration"),
        width=ask("nvmlDeviceGetCurrPcieLinkWidth"),
        replays=ask("nvmlDeviceGetPcieReplayCounter"),
    )
