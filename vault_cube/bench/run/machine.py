"""Description of the measured machine."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vault_cube.bench.fields import Gpu
from vault_cube.bench.judge.result import Machine


def describe(gpus: Sequence[Gpu], driver: str | None, simulated: bool, manifest: Path | None) -> Machine:
    """Describe this machine for a result.

    gpus: as `Hardware.gpus`. driver: version of the NVIDIA driver, or None. simulated: the GPUs are those of the
    fake NVML of the tests. manifest: file of the image's manifest, or None; a missing file is no error.
    """
    return Machine(
        accelerator="nvidia" if gpus else "cpu",
        simulated=simulated,
        processor=_first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        kernel=platform.release(),
        system=_first(r'^PRETTY_NAME="?([^"\n]+)"?$', "/etc/os-release") or "unknown",
        image=_json(manifest),
        driver=driver,
        gpus=list(gpus),
        load=[round(value, 2) for value in os.getloadavg()],
    )


def _first(pattern: str, file: str) -> str | None:
    try:
        match = re.search(pattern, Path(file).read_text(), re.MULTILINE)
    except OSError:
        return None
    return match[1].strip() if match else None


def _json(file: Path | None) -> dict[str, Any] | None:
    try:
        document = json.loads(file.read_text()) if file else None
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
