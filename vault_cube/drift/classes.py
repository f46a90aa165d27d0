"""The classes of differences, and what is found: findings, and the results of states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from vault_cube.drift.scan import Difference

REPAIRED = "repaired by state.apply"
UNMANAGED = "not managed, differs from the image"
EXPECTED = "expected"
UNKNOWN = "cannot be judged"
CLASSES = (UNMANAGED, REPAIRED, UNKNOWN, EXPECTED)
DRIFT = (UNMANAGED, REPAIRED)
"""Classes that count as drift."""


class StateResult(TypedDict):
    """The result of one state under test=True."""

    state: str
    """Such as `base.ssh: ssh accepts keys only`."""
    function: str
    """Such as `file.managed`."""
    name: str
    differs: bool
    failed: bool
    would: str
    """What applying it would do."""


@dataclass(frozen=True)
class Finding:
    """One difference and its class."""

    kind: str
    """One of CLASSES."""
    what: str
    change: str
    why: str = ""
    todo: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields for JSON: class, what, change, why, todo."""
        return {"class": self.kind, "what": self.what, "change": self.change, "why": self.why, "todo": self.todo}


def collapsed(differences: Iterable[Difference], findings: Mapping[str, Finding]) -> list[Finding]:
    """Count the entries of an additional folder instead of listing them."""
    tops: dict[str, int] = {}
    result: dict[str, Finding] = {}
    for difference in differences:
        path, finding = difference.path, findings.get(difference.path)
        if finding is None:
            continue
        top = next((parent for parent in _parents(path) if parent in tops), None)
        if difference.kind == "extra" and top is not None and finding.kind == findings[top].kind:
            tops[top] += 1
            continue
        result[path] = finding
        if difference.kind == "extra" and difference.type == "d":
            tops[path] = 0
    for top, count in tops.items():
        if count:
            finding = result[top]
            result[top] = Finding(
                finding.kind, finding.what, f"{finding.change}, with {count} entries", finding.why, finding.todo
            )
    return list(result.values())


def _parents(path: str) -> Iterable[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def summary(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return `drifted`, the number of findings per class, and the findings, worst class first."""
    ordered = sorted(findings, key=lambda finding: (CLASSES.index(finding.kind), finding.what))
    counts = {kind: sum(finding.kind == kind for finding in findings) for kind in CLASSES}
    return {
        "drifted": any(counts[kind] for kind in DRIFT),
        "counts": counts,
        "findings": [finding.as_dict() for finding in ordered],
    }
