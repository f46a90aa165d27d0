"""The outcome of a check, and the report over several.

A check that cannot run in this place, for want of a running system or a GPU, is *not applicable here*, with the reason;
it never counts as passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def verdict(case: str, good: bool, evidence: str, threshold: str = "") -> Verdict:
    """A verdict on something that could be tried."""
    return Verdict(case, PASSED if good else FAILED, evidence, threshold)


def not_applicable(case: str, reason: str) -> Verdict:
    return Verdict(case, NOT_APPLICABLE, reason)


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
