"""The result of the last `drift.report` as metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vault_cube.drift.classes import EXPECTED, REPAIRED, UNKNOWN, UNMANAGED
from vault_cube.metrics import exposition
from vault_cube.metrics.exposition import Family

LABELS = {REPAIRED: "repaired", UNMANAGED: "unmanaged", UNKNOWN: "unknown", EXPECTED: "expected"}
"""Class of a finding → label."""


def families(result: Mapping[str, Any], at: float) -> list[Family]:
    """Return the metrics of a result of `drift.report`. at: its time, seconds since 1970."""
    counts = Family("vault_cube_drift_findings", "differences of this box from its states and its image, by class")
    for kind, count in result["counts"].items():
        counts.add({"class": LABELS[kind]}, count)
    checked = Family("vault_cube_drift_checked_timestamp_seconds", "time of the last comparison, by what it read")
    checked.add({"mode": result["mode"]}, at)
    return [counts, checked]


def write(result: Mapping[str, Any], folder: Path) -> None:
    """Write the metrics to the node exporter's folder, if the box has one. Raises OSError."""
    if folder.is_dir():
        exposition.write(folder, "vault-cube-drift", families(result, time.time()))
