"""What measurements in a tree share: the machine, medians with intervals, copies of what a box carries."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LEAST = 5
"""Values of which a median has an interval."""
TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))
from vault_cube.bench.judge import interval  # noqa: E402 needs sys.path
from vault_cube.bench.run import machine  # noqa: E402 needs sys.path
from vault_cube.carried import carried, mode  # noqa: E402 needs sys.path


def described() -> dict[str, Any]:
    """Describe this machine."""
    description = machine.describe([], None, False, None)
    return {key: getattr(description, key) for key in ("processor", "cores", "memory_gib", "kernel")}


def median(values: Sequence[float]) -> dict[str, float]:
    """Return the median and, of at least LEAST values, its interval."""
    result = {"median": round(statistics.median(values), 3)}
    if len(values) >= LEAST:
        low, high = interval.median_interval(values)
        result |= {"low": round(low, 3), "high": round(high, 3)}
    return result


def copy_carried(checkout: Path, target: str, folder: Path) -> None:
    """Copy the files of a checkout that a box of a target carries into a folder."""
    for place, file in carried(checkout, target).items():
        copy = folder / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(mode(file))
