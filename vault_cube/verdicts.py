"""The verdict of a check, the function that runs checks, and the report on their verdicts.

A check is a function of the context that it reads: a box, the readings of a GPU, a booted guest. It returns a
`Verdict`, yields several, or returns its evidence as text if all is well. docs/checks.md shows where each kind of check
belongs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from vault_cube.errors import VaultCubeError

Status = Literal["not applicable", "ok", "uncertain", "warning", "fault"]
"""not applicable: cannot be checked here, and why; never counts as passed. uncertain: measured, but the evidence does
not decide. warning: works, and needs attention. fault: does not work, or not as the pillar requires."""

ORDER: tuple[Status, ...] = get_args(Status)
"""All statuses, from harmless to bad."""
NOT_APPLICABLE, OK, UNCERTAIN, WARNING, FAULT = ORDER
BAD = (UNCERTAIN, WARNING, FAULT)
EXIT_CODES: Mapping[str, int] = {NOT_APPLICABLE: 0, OK: 0, UNCERTAIN: 1, WARNING: 1, FAULT: 2}
MARKS: Mapping[str, str] = {NOT_APPLICABLE: "n/a", OK: "ok", UNCERTAIN: "UNCERTAIN", WARNING: "WARNING", FAULT: "FAULT"}


@dataclass(frozen=True)
class Verdict:
    """The result of one check."""

    status: Status
    evidence: str
    """The measured value or the observation, or the reason why the check cannot run here."""
    todo: str = ""
    """What to do about it."""
    threshold: str = ""
    """The value that the evidence is compared with, and its pillar key."""
    check: str = ""
    """Name of the check; `run` fills it in from the name of the check's function."""
    gpu: int | None = None
    """Index of the GPU; None: the verdict is not about a single GPU."""
    seconds: float | None = field(default=None, compare=False)
    """Duration of the check, if it was measured."""

    @property
    def bad(self) -> bool:
        """Whether something is wrong or undecided."""
        return self.status in BAD

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that have a value, for JSON: check, gpu, status, evidence, threshold, todo, seconds."""
        order = ("check", "gpu", "status", "evidence", "threshold", "todo", "seconds")
        return {name: value for name in order if (value := getattr(self, name)) not in (None, "")}


class NotApplicable(Exception):
    """Raised by a check that cannot run here; the message is the reason."""


Check = Callable[..., Verdict | str | Iterable[Verdict]]


def ok(evidence: str, threshold: str = "", *, check: str = "") -> Verdict:
    """Return the verdict of a check that passed."""
    return Verdict(OK, evidence, threshold=threshold, check=check)


def warning(evidence: str, todo: str = "", threshold: str = "", *, check: str = "") -> Verdict:
    """Return a warning."""
    return Verdict(WARNING, evidence, todo, threshold, check)


def fault(evidence: str, todo: str = "", threshold: str = "", *, check: str = "") -> Verdict:
    """Return a fault."""
    return Verdict(FAULT, evidence, todo, threshold, check)


def not_applicable(reason: str, *, check: str = "") -> Verdict:
    """Return the verdict of a check that cannot run here."""
    return Verdict(NOT_APPLICABLE, reason, check=check)


def verdict(good: bool, evidence: str, threshold: str = "", todo: str = "", *, check: str = "") -> Verdict:
    """Return ok if good is true, else a fault. todo: what to do about a fault."""
    return Verdict(OK, evidence, "", threshold, check) if good else Verdict(FAULT, evidence, todo, threshold, check)


def name(check: Check) -> str:
    """Return a check's name: that of its function, with spaces."""
    return str(getattr(check, "__name__", "check")).replace("_", " ")


def run(checks: Iterable[Check], *context: Any, gpu: int | None = None) -> Iterator[Verdict]:
    """Run checks one after the other, and yield their verdicts.

    context: the arguments of each check. gpu: index of the GPU that the checks are about, if they are about one.
    A check that raises NotApplicable is not applicable, one that raises VaultCubeError has found a fault. Any other
    exception is a warning: a check that breaks must neither hide the other checks nor count as passed.
    """
    for check in checks:
        try:
            outcome = check(*context)
            if isinstance(outcome, str):
                outcome = ok(outcome)
            for each in (outcome,) if isinstance(outcome, Verdict) else outcome:
                yield replace(each, check=each.check or name(check), gpu=gpu if each.gpu is None else each.gpu)
        except NotApplicable as err:
            yield Verdict(NOT_APPLICABLE, str(err), check=name(check), gpu=gpu)
        except VaultCubeError as err:
            yield Verdict(FAULT, str(err), check=name(check), gpu=gpu)
        except Exception as err:
            evidence = f"this check broke: {type(err).__name__}: {err}"[:200]
            yield Verdict(
                WARNING, evidence, "report this line: it is a defect of Vault Cube", check=name(check), gpu=gpu
            )


def worst(statuses: Iterable[Status]) -> Status:
    """Return the worst of several statuses; not applicable if there are none."""
    return max(statuses, key=ORDER.index, default=NOT_APPLICABLE)


@dataclass(frozen=True)
class Report:
    """The verdicts of several checks."""

    subject: str
    """What was checked, such as a layer's name or `4 x NVIDIA GeForce RTX 5090`."""
    verdicts: Sequence[Verdict]
    simulated: bool = False
    """True if GPU readings came from the fake NVML of the tests."""
    started: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    """UTC, ISO 8601."""

    @property
    def status(self) -> Status:
        """The worst status."""
        return worst(each.status for each in self.verdicts)

    @property
    def counts(self) -> dict[str, int]:
        """Number of verdicts by status, the worst status first; without those that do not occur."""
        counts = {status: sum(each.status == status for each in self.verdicts) for status in reversed(ORDER)}
        return {status: count for status, count in counts.items() if count}

    @property
    def exit_code(self) -> int:
        """0: ok or not applicable, 1: uncertain or a warning, 2: a fault."""
        return EXIT_CODES[self.status]

    def as_dict(self) -> dict[str, Any]:
        """Return subject, verdict (the worst status), counts, started, checks; and simulated, if it is true."""
        document: dict[str, Any] = {
            "subject": self.subject,
            "verdict": self.status,
            "counts": self.counts,
            "started": self.started,
            "checks": [each.as_dict() for each in self.verdicts],
        }
        return document | ({"simulated": True} if self.simulated else {})

    def table(self) -> str:
        """Return the verdicts as text, the worst first, each with what to do; equal verdicts on several GPUs once."""
        from vault_cube import terminal

        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        head = [f"{MARKS[self.status]}: {self.subject}" + (f"   ({counts})" if counts else "")]
        if self.simulated:
            head.append("simulated: true. These readings are from the fake library of a test, not from NVIDIA's.")
        rows = [row for status in reversed(ORDER) for row in self._rows(status)]
        if not any(gpus for _, _, gpus, _ in rows):
            rows = [(mark, check, evidence) for mark, check, _, evidence in rows]
        return "\n".join([*head, terminal.text(terminal.grid(rows))]) if rows else "\n".join(head)

    def _rows(self, status: Status) -> Iterator[tuple[str, ...]]:
        """Yield mark, check, GPUs and evidence."""
        gpus: dict[Verdict, list[int]] = {}
        for each in self.verdicts:
            if each.status == status:
                indices = gpus.setdefault(replace(each, gpu=None), [])
                indices += [] if each.gpu is None else [each.gpu]
        for each, indices in gpus.items():
            evidence = each.evidence + (f"   [{each.threshold}]" if each.threshold else "")
            evidence += f"\n→ {each.todo}" if each.todo else ""
            yield MARKS[status], each.check, _gpus(indices), evidence


def _gpus(indices: Sequence[int]) -> str:
    """Shorten a list of GPUs: `GPU 0-3`, or `GPU 0,2`."""
    if not indices:
        return ""
    first, last = indices[0], indices[-1]
    consecutive = len(indices) > 2 and list(indices) == list(range(first, last + 1))
    return f"GPU {first}-{last}" if consecutive else "GPU " + ",".join(map(str, indices))
