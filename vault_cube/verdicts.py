"""The verdict of a check, and the report on several verdicts.

A check that cannot run here, because it needs a running system or a GPU, is *not applicable here*, with the reason. It
never counts as passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not applicable here"


@dataclass(frozen=True)
class Verdict:
    """The result of one check."""

    case: str
    status: str
    evidence: str
    """The measured value or the observation, or the reason why the check cannot run here."""
    threshold: str = ""
    """The value that the evidence is compared with, and its pillar key."""


def verdict(case: str, good: bool, evidence: str, threshold: str = "") -> Verdict:
    """Return the verdict of a check that could run: passed if good is true, else failed."""
    return Verdict(case, PASSED if good else FAILED, evidence, threshold)


def not_applicable(case: str, reason: str) -> Verdict:
    """Return the verdict of a check that cannot run here."""
    return Verdict(case, NOT_APPLICABLE, reason)


def summary(layer: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return all verdicts of a layer with their counts. The layer passes if a case passed and none failed."""
    counts = {status: sum(each.status == status for each in verdicts) for status in (PASSED, FAILED, NOT_APPLICABLE)}
    return {
        "layer": layer,
        "verdict": FAILED if counts[FAILED] else PASSED if counts[PASSED] else NOT_APPLICABLE,
        "counts": counts,
        "cases": [vars(each) for each in verdicts],
    }


def table(report: Mapping[str, Any]) -> str:
    """Format the summary of a layer as a table of text."""
    lines = [
        f"{report['layer']}: {report['verdict']}   "
        + ", ".join(f"{n} {status}" for status, n in report["counts"].items() if n)
    ]
    width = max((len(case["case"]) for case in report["cases"]), default=0)
    for case in report["cases"]:
        threshold = f"   [{case['threshold']}]" if case["threshold"] else ""
        lines.append(f"  {case['status']:<19}  {case['case']:<{width}}  {case['evidence']}{threshold}")
    return "\n".join(lines)
