"""The context of the GPU checks: everything that was read before the first of them runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vault_cube.gpu.read.host import Host
from vault_cube.settings import Settings
from vault_cube.settings.gpu import Health

Card = Mapping[str, Any]
"""One GPU as vault_cube.gpu.read.detail has it."""


@dataclass(frozen=True)
class Seen:
    """All that was read before the first check judges: checks ask nobody.

    facts: versions, module, problem. cards: one dict a GPU.
    masks: GPU → sampled masks of throttle reasons. log: XIDs of this boot with `at`, None if the log cannot be read.
    before: the same of the boot before, if it can matter. loaded: GPU → PCIe generation and width while it was kept
    busy, and the replays in that time, or `problem`; empty without load=True.
    """

    settings: Settings
    machine: Host
    now: float
    facts: Mapping[str, Any]
    cards: Sequence[Card]
    masks: Mapping[int, Sequence[int]] = field(default_factory=dict)
    log: Sequence[Mapping[str, Any]] | None = None
    before: Sequence[Mapping[str, Any]] | None = None
    loaded: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def rules(self) -> Health:
        """The thresholds, pillar gpu:health."""
        return self.settings.gpu.health

    @property
    def answering(self) -> list[Card]:
        """The GPUs that answered."""
        return [card for card in self.cards if "problem" not in card]


FULL_LOAD = 0.9
"""From this utilisation on a GPU has to be awake."""
REST_STATE = 5
"""P5 and higher: video and idle; programs that compute run in P0 to P3 (nvidia-smi(1), "Performance State")."""


def busy(card: Card) -> bool:
    """Whether a GPU works now: an idle one says nothing of its links and clocks."""
    return card.get("utilisation", 0) > 0.05 and "gpu_idle" not in card.get("throttle", ()) and not latched(card)


def latched(card: Card) -> bool:
    """Whether a GPU at rest counts as busy: its utilisation stands at 100 %, and nobody uses it.

    Seen with drivers 580 to 595 on Blackwell (github.com/Datura-ai/lium-io/pull/1142).
    """
    return card.get("utilisation", 0) >= FULL_LOAD and card.get("processes") == [] and rests(card)


def rests(card: Card) -> bool:
    """Whether clocks and performance state are those of a GPU without work, and nothing slows it down."""
    slowed = set(card.get("throttle", ())) - {"gpu_idle"}
    now, most = card.get("clock_mhz"), card.get("clocks_max_mhz", {}).get("sm")
    slow = now is not None and most is not None and now < most / 2 and not slowed
    return bool(card.get("performance_state", 0) >= REST_STATE or slow)
