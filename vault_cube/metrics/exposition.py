"""Prometheus' text format, and files of it that a reader never finds half written.

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
    """One metric: name, what it says and its unit, and a value for each set of labels."""

    name: str
    help: str
    kind: Literal["gauge", "counter"] = "gauge"
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, labels: Mapping[str, str], value: float | None) -> None:
        """A value; None, which a device that lacks the field gives, is left out."""
        if value is not None:
            self.samples.append((labels, value))


def text(families: Iterable[Family]) -> str:
    """The families that have values, in the text format."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        said = family.help.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {family.name} {said}", f"# TYPE {family.name} {family.kind}"]
        lines += [f"{family.name}{_braces(labels)} {value:.17g}" for labels, value in family.samples]
    return "\n".join(lines) + "\n" if lines else ""


def write(folder: Path, name: str, families: Iterable[Family]) -> Path:
    """Write `<folder>/<name>.prom` in one rename, readable by the node exporter. Raises OSError."""
    file = folder / f"{name}.prom"
    # the node exporter reads what ends in .prom
    spare = folder / f".{name}.{os.getpid()}.new"
    try:
        spare.write_text(text(families))
        spare.chmod(0o644)
        spare.replace(file)
    finally:
        spare.unlink(missing_ok=True)
    return file


def _braces(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    # a driver may give bytes that are no text; a file with them is refused as a whole
    sound = str(value).encode("utf-8", "replace").decode()
    return sound.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
