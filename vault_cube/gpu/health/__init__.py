"""Are the GPUs fit? One small function per question; each gives a verdict, its evidence, and what to do.

`look` reads everything first, so that a check is a plain function of what was read: of the box (box.py), or of one GPU
(storage.py, links.py, heat.py, use.py). A new check is a new function in a file's CHECKS, and its name in CHECK_NAMES
of vault_cube/settings/gpu.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vault_cube import verdicts
from vault_cube.gpu.health import box, heat, links, storage, use
from vault_cube.gpu.health.seen import Seen
from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import detail, facts, host, kernel_log, readings, sampling
from vault_cube.gpu.read.host import Host
from vault_cube.settings import Settings
from vault_cube.settings.gpu import Acceptance
from vault_cube.verdicts import FAULT, OK, Check, Report, Verdict

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, LoadedLink

CARD_CHECKS = (*storage.CHECKS, *links.CHECKS, *heat.CHECKS, *use.CHECKS)


def health(
    session: Session,
    settings: Settings,
    machine: Host | None = None,
    *,
    window_s: float | None = None,
    load: bool = False,
) -> Report:
    """Run all checks; never raises.

    window_s: time over which throttle reasons are sampled, seconds; None: the pillar's. load: keep the PCIe links busy
    in the meantime, to see their full speed; takes seconds.
    """
    seen = look(session, settings, machine or Host(), window_s=window_s, load=load)
    return report(seen, [accepted(each, seen.rules.accepted) for each in judge(seen)])


def report(seen: Seen, judgements: Sequence[Verdict]) -> Report:
    """Return verdicts as a report whose subject is the list of GPUs."""
    subject = facts.short(seen.cards, seen.facts.get("problem", "no GPU"))
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seen.now))
    return Report(subject, judgements, bool(seen.facts.get("simulated")), started)


def look(session: Session, settings: Settings, machine: Host, *, window_s: float | None, load: bool) -> Seen:
    """Read everything that the checks judge. window_s, load: as for `health`."""
    rules = settings.gpu.health
    log = kernel_log.begin(machine)
    # after a crash, the XIDs that led to it are in the log of the previous boot
    up = host.uptime_s(machine)
    before = kernel_log.begin(machine, boot=-1) if up is not None and up < rules.xid_hours * 3600 else None
    versions = facts.versions(session, machine)
    cards: list[Card] = []
    masks: dict[int, list[int]] = {}
    loaded: dict[int, LoadedLink] = {}
    if "problem" not in versions:
        try:
            cards = detail.details(session)
            well = [card["index"] for card in cards if "problem" not in card]
            try:
                masks = sampling.throttle_masks(session, well, window_s or rules.window_s)
            except NvmlProblem:
                # a GPU was lost in the meantime; reading each one again shows which
                cards = detail.details(session)
            cards = _without_ended(session, machine, cards)
            if load:
                from vault_cube.gpu.read.load import under_load

                loaded = under_load(session, rules.load_s)
        except NvmlProblem as err:
            versions |= {"problem": str(err), "problem_kind": err.problem.kind}
    if session.simulated:
        versions["simulated"] = True
    now, xids = time.time(), kernel_log.xids(log)
    return Seen(settings, machine, now, versions, cards, masks, xids, kernel_log.xids(before), loaded)


def _without_ended(session: Session, machine: Host, cards: list[Card]) -> list[Card]:
    """Remove processes that ended between two readings, so that they do not count as left over."""
    if all(host.process(machine, process["pid"]) for card in cards for process in card.get("processes", ())):
        return cards
    still = {card["index"]: card.get("processes", []) for card in session.each(_processes)}
    for card in cards:
        if "processes" in card:
            card["processes"] = [process for process in card["processes"] if process in still.get(card["index"], [])]
    return cards


def _processes(device: Device) -> Card:
    card: Card = facts.present(processes=readings.processes(device))
    return card


def judge(
    seen: Seen, of_box: Sequence[Check] = box.CHECKS, of_card: Sequence[Check] = CARD_CHECKS
) -> Iterator[Verdict]:
    """Run the checks of the box, then those of each GPU; for a GPU that does not answer, only `answers`."""
    yield from verdicts.run(of_box, seen)
    for card in seen.cards:
        checks = [use.answers] if "problem" in card else [use.answers, *of_card]
        yield from verdicts.run(checks, card, seen, gpu=card["index"])


def accepted(verdict: Verdict, acceptances: Mapping[str, str | Acceptance]) -> Verdict:
    """Apply the pillar's acceptances to a verdict: an accepted warning is ok, a fault only with `faults: true`.

    acceptances: pillar gpu:health:accepted, name of a check → reason, or Acceptance.
    """
    entry = acceptances.get(verdict.check)
    if isinstance(entry, str):
        entry = Acceptance(reason=entry, gpus=None, faults=False, xids=[])
    if entry is None or not verdict.bad:
        return verdict
    elsewhere = entry.gpus is not None and verdict.gpu not in entry.gpus
    if elsewhere or (verdict.status == FAULT and not entry.faults):
        return verdict
    return replace(verdict, status=OK, evidence=f"{verdict.evidence} (accepted: {entry.reason})", todo="")
