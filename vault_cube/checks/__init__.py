"""Validation cases of the layers: what each must show, with thresholds from the pillar.

A case is a function that takes a `Place` and gives verdicts. What cannot be tried where it runs, because it needs a
running system or a GPU, is *not applicable here*, with the reason; it never counts as passed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not applicable here"


@dataclass(frozen=True)
class Verdict:
    """One case's outcome."""

    case: str
    status: str
    evidence: str
    """what was measured or seen, or why the case cannot be tried here"""
    threshold: str = ""
    """what it was held against, and the pillar key that says so"""


@dataclass(frozen=True)
class Place:
    """Where cases run: a live box, or a tree without a running system."""

    pillar: Mapping[str, Any]
    live: bool

    @cached_property
    def gpus(self) -> int:
        """How many GPUs answer; 0 without a driver that does."""
        from vault_cube.gpu.facts import facts
        from vault_cube.gpu.session import Session

        with Session(self.pillar["gpu"]["answer_s"]) as session:
            return sum("problem" not in one for one in facts(session)["devices"])


Case = Callable[[Place], Iterable[Verdict]]


def command(words: Sequence[str], seconds: int, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command for at most so many seconds; what is missing or too slow is a failed command, not an exception."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False, **options)
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"{words[0]}: no answer within {seconds} s")


def verdict(case: str, good: bool, evidence: str, threshold: str = "") -> Verdict:
    """A verdict on something that could be tried."""
    return Verdict(case, PASSED if good else FAILED, evidence, threshold)


def not_applicable(case: str, reason: str) -> Verdict:
    return Verdict(case, NOT_APPLICABLE, reason)


def last_line(text: str) -> str:
    """The last line of what a program printed, shortened in its middle: programs say last what the matter is."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return last if len(last) <= 300 else f"{last[:100]} … {last[-197:]}"


def summary(layer: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All verdicts of a layer with their counts; `passed` needs at least one passed case and no failed one."""
    counts = {status: sum(one.status == status for one in verdicts) for status in (PASSED, FAILED, NOT_APPLICABLE)}
    return {
        "layer": layer,
        "verdict": FAILED if counts[FAILED] else PASSED if counts[PASSED] else NOT_APPLICABLE,
        "counts": counts,
        "cases": [vars(one) for one in verdicts],
    }


def table(found: Mapping[str, Any]) -> str:
    """A layer's verdicts for a person to read."""
    lines = [
        f"{found['layer']}: {found['verdict']}   "
        + ", ".join(f"{n} {what}" for what, n in found["counts"].items() if n)
    ]
    width = max((len(case["case"]) for case in found["cases"]), default=0)
    for case in found["cases"]:
        held = f"   [{case['threshold']}]" if case["threshold"] else ""
        lines.append(f"  {case['status']:<19}  {case['case']:<{width}}  {case['evidence']}{held}")
    return "\n".join(lines)


def read_json(file: Path) -> Any:
    """A JSON file's content, nothing when there is none or it is broken."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None
