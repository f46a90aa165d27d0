"""What a check looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vault_cube.gpu.read.host import Host

OK, WARNING, FAULT, NOT_APPLICABLE = "ok", "warning", "fault", "not applicable"
ORDER = (NOT_APPLICABLE, OK, WARNING, FAULT)
"""From harmless to bad; the worst finding is the verdict."""

Card = Mapping[str, Any]
"""One GPU as vault_cube.gpu.read.detail has it."""


@dataclass(frozen=True)
class Finding:
    """The answer to one question, about one GPU or the box: verdict, what was seen, and what to do about it."""

    verdict: str
    evidence: str
    todo: str = ""


@dataclass(frozen=True)
class Seen:
    """All that was read before the first check judges: checks ask nobody.

    pillar: the sections target, driver, runtime and gpu. facts: versions, module, problem. cards: one dict a GPU.
    masks: GPU → sampled masks of throttle reasons. log: XIDs of this boot with `at`, none where the log may not be
    read. loaded: GPU → PCIe generation and width while it was kept busy, or `problem`; empty without load=True.
    """

    pillar: Mapping[str, Any]
    machine: Host
    now: float
    facts: Mapping[str, Any]
    cards: Sequence[Card]
    masks: Mapping[int, Sequence[int]] = field(default_factory=dict)
    log: Sequence[Mapping[str, Any]] | None = None
    loaded: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def rules(self) -> Mapping[str, Any]:
        """The thresholds, pillar gpu:health."""
        return self.pillar["gpu"]["health"]  # type: ignore[no-any-return]

    @property
    def answering(self) -> list[Card]:
        """The GPUs that answered."""
        return [card for card in self.cards if "problem" not in card]


CardCheck = Callable[[Card, Seen], Finding]
BoxCheck = Callable[[Seen], Finding]


def ok(evidence: str) -> Finding:
    """All is well."""
    return Finding(OK, evidence)


def lacking(evidence: str) -> Finding:
    """The question does not arise here, and why."""
    return Finding(NOT_APPLICABLE, evidence)


def busy(card: Card) -> bool:
    """Whether a GPU works now: an idle one says nothing of its links and clocks."""
    return bool(card.get("utilisation", 0) > 0.05) and "gpu_idle" not in card.get("throttle", ())
