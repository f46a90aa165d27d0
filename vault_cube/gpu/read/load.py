"""Measure PCIe links under load, because an idle link drops to generation 1."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import copying, host
from vault_cube.gpu.read.facts import present, text
from vault_cube.process import DEVNULL, PIPE, Process, start

if TYPE_CHECKING:
    from vault_cube.gpu.fields import LoadedLink, Pcie

    class _Link(Pcie, total=False):
        index: int
        problem: str
        kind: str


START_S = 20.0
"""CUDA opens a GPU in under a second; without persistence the driver has to initialise the GPU first."""


def under_load(session: Session, seconds: float) -> dict[int, LoadedLink]:
    """Keep the PCIe links busy, and return the best values of each GPU's link, or `problem` if there was no load.

    seconds: duration of the load after all GPUs are busy. Raises NvmlProblem.
    """
    gpus = session.each(_link)
    if any(gpu.get("kind") == "hang" for gpu in gpus):
        # CUDA initialises all GPUs, so it would hang as well
        return {gpu["index"]: {"problem": "no load: a GPU of this box hangs"} for gpu in gpus if "problem" not in gpu}
    addresses = {gpu["index"]: host.sysfs(gpu["bus_id"]) for gpu in gpus if "problem" not in gpu and "bus_id" in gpu}
    before = {gpu["index"]: gpu["replays"] for gpu in gpus if "replays" in gpu}
    command = [sys.executable, "-I", "-S", str(Path(copying.__file__)), str(START_S + seconds)]
    command += [f"{index}={address}" for index, address in addresses.items()]
    loaded: dict[int, LoadedLink] = {}
    with start(command, stdout=PIPE, stderr=DEVNULL, text=True) as load:
        hung = threading.Timer(START_S, load.kill)
        hung.start()
        try:
            loaded = _started(load, list(addresses))
            hung.cancel()
            until = time.monotonic() + seconds
            while any("problem" not in gpu for gpu in loaded.values()) and time.monotonic() < until:
                for gpu in session.each(_link):
                    if gpu["index"] in loaded and "problem" not in loaded[gpu["index"]]:
                        _merge(loaded[gpu["index"]], gpu, before)
                time.sleep(0.05)
        finally:
            hung.cancel()
            load.kill()
    without = [gpu["index"] for gpu in gpus if "problem" not in gpu and "bus_id" not in gpu]
    return loaded | {index: {"problem": "no load: the GPU gives no PCI address"} for index in without}


def _merge(best: LoadedLink, now: _Link, before: dict[int, int]) -> None:
    if "generation" in now:
        best["generation"] = max(best.get("generation", 0), now["generation"])
    if "width" in now:
        best["width"] = max(best.get("width", 0), now["width"])
    if "replays" in now and now["index"] in before:
        best["replays"] = max(0, now["replays"] - before[now["index"]])


def _started(load: Process[str], indices: list[int]) -> dict[int, LoadedLink]:
    """Wait until each GPU is busy, or has reported why it is not."""
    started: dict[int, LoadedLink] = {}
    assert load.stdout is not None  # noqa: S101 the caller set it to a pipe
    for line in load.stdout:
        index, _, message = line.strip().partition(" ")
        started[int(index)] = {} if message == "ready" else {"problem": f"no load: {message}"}
        if len(started) == len(indices):
            break
    missing = [index for index in indices if index not in started]
    return started | {index: {"problem": "no load: the program that makes it ended"} for index in missing}


def _link(device: Device) -> _Link:
    ask, pci = device.ask, device.ask("nvmlDeviceGetPciInfo")
    link: _Link = present(
        bus_id=None if pci is None else text(pci.busId),
        generation=ask("nvmlDeviceGetCurrPcieLinkGeneration"),
        width=ask("nvmlDeviceGetCurrPcieLinkWidth"),
        replays=ask("nvmlDeviceGetPcieReplayCounter"),
    )
    return link
