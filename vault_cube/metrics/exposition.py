"""Prometheus' text format, and its files, which are replaced atomically.

Source: prometheus.io/docs/instrumenting/exposition_formats, "Text-based format", version 0.0.4.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass
class Family:
    """One metric: name, help text with the unit, and one value per set of labels."""

    name: str
    help: str
    kind: Literal["gauge", "counter"] = "gauge"
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, labels: Mapping[str, str], value: float | None) -> None:
        """Add a value. None, the reading of a device without this field, is left out."""
        if value is not None:
            self.samples.append((labels, value))


def text(families: Iterable[Family]) -> str:
    """Format the families that have values in the text format."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        help_text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {family.name} {help_text}", f"# TYPE {family.name} {family.kind}"]
        lines += [f"{family.name}{_braces(labels)} {value:.17g}" for labels, value in family.samples]
    return "\n".join(lines) + "\n" if lines else ""


def write(folder: Path, name: str, families: Iterable[Family]) -> Path:
    """Write `<folder>/<name>.prom` atomically, readable by the node exporter. Returns the file. Raises OSError."""
    file = folder / f"{name}.prom"
    # the node exporter reads only files whose names end in .prom
    temporary = folder / f".{name}.{os.getpid()}.new"
    try:
        temporary.write_text(text(families))
        temporary.chmod(0o644)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return file


def _braces(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    # a driver may return bytes that are not UTF-8, and the node exporter rejects a whole file with one of them
    valid = str(value).encode("utf-8", "replace").decode()
    return valid.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
