"""The context of the GPU checks: everything that was read before the first of them runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vault_cube.gpu.read.host import Host
from vault_cube.settings import Settings
from vault_cube.settings.gpu import Health

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, LoadedLink, Versions, Xid


@dataclass(frozen=True)
class Seen:
    """Everything that was read before the first check runs. Checks themselves read only the machine's files."""

    settings: Settings
    machine: Host
    now: float
    """Seconds since 1970."""
    facts: Versions
    cards: Sequence[Card]
    masks: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Sampled masks of throttle reasons, by GPU."""
    log: Sequence[Xid] | None = None
    """XIDs of this boot; None if the kernel's log cannot be read."""
    before: Sequence[Xid] | None = None
    """XIDs of the previous boot, if this boot is young enough for them to matter."""
    loaded: Mapping[int, LoadedLink] = field(default_factory=dict)
    """PCIe links under load, by GPU; empty without load=True."""

    @property
    def rules(self) -> Health:
        """The thresholds, pillar gpu:health."""
        return self.settings.gpu.health

    @property
    def answering(self) -> list[Card]:
        """The GPUs that answer."""
        return [card for card in self.cards if "problem" not in card]


FULL_LOAD = 0.9
"""Utilisation from which a GPU must have left its idle clocks."""
REST_STATE = 5
"""P5 and higher: video and idle; programs that compute run in P0 to P3 (nvidia-smi(1), "Performance State")."""


def busy(card: Card) -> bool:
    """Return whether a GPU computes now; links and clocks of an idle GPU are low on purpose."""
    return card.get("utilisation", 0) > 0.05 and "gpu_idle" not in card.get("throttle", ()) and not latched(card)


def latched(card: Card) -> bool:
    """Return whether an idle, unused GPU reports a utilisation of 100 %, which is an error of the driver.

    Observed with drivers 580 to 595 on Blackwell (github.com/Datura-ai/lium-io/pull/1142).
    """
    return card.get("utilisation", 0) >= FULL_LOAD and card.get("processes") == [] and rests(card)


def rests(card: Card) -> bool:
    """Return whether clocks and performance state are those of an idle GPU, and no throttle reason is active."""
    reasons = set(card.get("throttle", ())) - {"gpu_idle"}
    now, most = card.get("clock_mhz"), card.get("clocks_max_mhz", {}).get("sm")
    slow = now is not None and most is not None and now < most / 2 and not reasons
    return bool(card.get("performance_state", 0) >= REST_STATE or slow)
