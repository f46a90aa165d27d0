"""What measurements in a tree share: options, medians with intervals, copies of what a box carries, the result."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
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


def options(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser of the options that all measurements in a tree have."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--target", default="debian-12", help="target whose tree is used (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=rounds, help="measured rounds (default: %(default)s)")
    parser.add_argument("--note", help="a remark about the machine's load, for the result")
    parser.add_argument("--results", type=Path, help="folder for the result (default: print it)")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line. Ends the program unless it runs as root."""
    chosen = parser.parse_args()
    if os.geteuid():
        parser.error("mounting a tree requires root: run it with sudo")
    return chosen


def write(chosen: argparse.Namespace, benchmark: str, load: float, inside: dict[str, Any], **more: Any) -> None:
    """Write the result of a measurement, or print it.

    load: load average before. inside: what the rounds returned: `samples`, and `load` after them. more: further
    fields, such as the unit and the times.
    """
    date = time.strftime("%Y-%m-%d")
    document = {
        "benchmark": benchmark,
        "date": date,
        "command": " ".join([os.path.relpath(sys.argv[0], TOP), *sys.argv[1:]]),
        "target": chosen.target,
        "machine": described(),
        "load_average": {"before": round(load, 2), "after": round(inside["load"][0], 2)},
        "note": chosen.note,
        **more,
        "samples": inside["samples"],
    }
    text = json.dumps(document, indent=1) + "\n"
    if not chosen.results:
        print(text, end="")
        return
    file = chosen.results / f"{date}-{benchmark}.json"
    file.write_text(text)
    print(file)


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
