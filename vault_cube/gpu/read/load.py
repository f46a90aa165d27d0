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
from vault_cube.gpu.read import copying, readings

START_S = 20.0
"""CUDA opens a GPU in under a second; without persistence it wakes it first."""


def under_load(session: Session, seconds: float) -> dict[int, dict[str, Any]]:
    """GPU → the best generation and width that were seen under load, or `problem`, why there was no load.

    seconds: how long the load lasts once it runs. Raises NvmlProblem.
    """
    indices = [one["index"] for one in session.each(_link) if "problem" not in one]
    command = [sys.executable, "-I", "-S", str(Path(copying.__file__)), str(START_S + seconds), *map(str, indices)]
    found: dict[int, dict[str, Any]] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as load:
        hung = threading.Timer(START_S, load.kill)
        hung.start()
        try:
            found = _started(load, indices)
            hung.cancel()
            until = time.monotonic() + seconds
            while any("problem" not in one for one in found.values()) and time.monotonic() < until:
                for one in session.each(_link):
                    best = found.get(one["index"], {})
                    if "problem" not in best and "generation" in one:
                        best["generation"] = max(best.get("generation", 0), one["generation"])
                        best["width"] = max(best.get("width", 0), one["width"])
                time.sleep(0.05)
        finally:
            hung.cancel()
            load.kill()
    return found


def _started(load: subprocess.Popen[str], indices: list[int]) -> dict[int, dict[str, Any]]:
    """Wait until every GPU is busy or said why not."""
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
    return readings.present(
        generation=device.ask("nvmlDeviceGetCurrPcieLinkGeneration"), width=device.ask("nvmlDeviceGetCurrPcieLinkWidth")
    )
