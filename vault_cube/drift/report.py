"""Format the result of a comparison for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vault_cube.drift.classes import DRIFT, EXPECTED

LISTED = 100
"""Largest number of lines per class."""


def text(result: Mapping[str, Any]) -> str:
    """Return a table: one line per finding, grouped by class; of expected differences only their number.

    result: drifted, counts, findings, and for a comparison with an image mode, image, files, read, seconds and notes.
    """
    drift = sum(result["counts"][kind] for kind in DRIFT)
    lines = [f"{drift} differences" if drift else "no drift"]
    if result.get("image"):
        lines[0] += (
            f"; {result['files']} files of {result['image']} compared in {result['seconds']} s "
            f"({result['mode']}: {result['read']} read, {result['trusted']} not written since)"
        )
    for kind, count in result["counts"].items():
        if not count:
            continue
        lines.append(f"{kind}: {count}")
        shown = [finding for finding in result["findings"] if finding["class"] == kind and kind != EXPECTED]
        lines += [f"  {_line(finding)}" for finding in shown[:LISTED]]
        if len(shown) > LISTED:
            lines.append(f"  and {len(shown) - LISTED} more (--out=json lists all)")
    lines += [f"note: {note}" for note in result.get("notes", ())]
    return "\n".join(lines)


def _line(finding: Mapping[str, str]) -> str:
    why = f" ({finding['why']})" if finding["why"] else ""
    todo = f": {finding['todo']}" if finding["todo"] else ""
    return f"{finding['what']}: {finding['change']}{why}{todo}"
