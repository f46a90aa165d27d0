"""Is the box fit? One small function per question; each gives a verdict, what it saw, and what to do.

Everything is read first (`look`), so that a check is a plain function of what was seen: of the box (box.py), or of one
GPU (storage.py, links.py, heat.py, use.py). A new question is a new function in a file's CHECKS.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vault_cube.gpu.health import box, heat, links, storage, use
from vault_cube.gpu.health.finding import FAULT, NOT_APPLICABLE, OK, ORDER, WARNING, BoxCheck, CardCheck, Finding, Seen
from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import detail, facts, host, kernel_log, readings, sampling
from vault_cube.gpu.read.host import Host

CARD_CHECKS = (*storage.CHECKS, *links.CHECKS, *heat.CHECKS, *use.CHECKS)


def health(
    session: Session,
    pillar: Mapping[str, Any],
    machine: Host | None = None,
    *,
    window_s: float | None = None,
    load: bool = False,
) -> dict[str, Any]:
    """Ask every question; never raises.

    pillar: sections target, driver, runtime, gpu. window_s: how long throttle reasons are sampled, seconds; the
    pillar's otherwise. load: keep the PCIe links busy meanwhile, to see what they reach; takes seconds.

    Returns verdict (the worst), counts {verdict: number}, checks [{check, gpu (absent: the box), verdict, evidence,
    todo}], started (UTC), gpus (one line), simulated (only where it is).
    """
    seen = look(session, pillar, machine or Host(), window_s=window_s, load=load)
    checks = [accepted(one, seen.rules["accepted"]) for one in judge(seen)]
    counts = {name: sum(one["verdict"] == name for one in checks) for name in ORDER}
    found = {
        "verdict": max((one["verdict"] for one in checks), key=ORDER.index),
        "counts": {name: count for name, count in counts.items() if count},
        "gpus": facts.short({"devices": seen.cards, "problem": seen.facts.get("problem", "no GPU")}),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seen.now)),
        "checks": checks,
    }
    return found | ({"simulated": True} if seen.facts.get("simulated") else {})


def look(session: Session, pillar: Mapping[str, Any], machine: Host, *, window_s: float | None, load: bool) -> Seen:
    """Read all that the checks judge."""
    rules = pillar["gpu"]["health"]
    log = kernel_log.begin(machine)
    # after a crash the XIDs that led to it are in the boot before
    up = host.uptime_s(machine)
    before = kernel_log.begin(machine, boot=-1) if up is not None and up < rules["xid_hours"] * 3600 else None
    versions, cards = facts.versions(session, machine), []
    masks: dict[int, list[int]] = {}
    loaded: dict[int, dict[str, Any]] = {}
    if "problem" not in versions:
        try:
            cards = detail.details(session)
            well = [card["index"] for card in cards if "problem" not in card]
            try:
                masks = sampling.throttle_masks(session, well, window_s or rules["window_s"])
            except NvmlProblem:
                # one of them went in that time: asked again one by one, it shows which
                cards = detail.details(session)
            cards = _twice(session, machine, cards)
            if load:
                from vault_cube.gpu.read.load import under_load

                loaded = under_load(session, rules["load_s"])
        except NvmlProblem as err:
            versions |= {"problem": str(err), "problem_kind": err.problem.kind}
    if session.simulated:
        versions["simulated"] = True
    now, xids = time.time(), kernel_log.xids(log)
    return Seen(pillar, machine, now, versions, cards, masks, xids, kernel_log.xids(before), loaded)


def _twice(session: Session, machine: Host, cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Look again for processes that are gone: one that ended between two readings is none that was left over."""
    if all(host.process(machine, one["pid"]) for card in cards for one in card.get("processes", ())):
        return cards
    held = {answer["index"]: answer.get("processes", []) for answer in session.each(_processes)}
    return [
        {**card, "processes": [one for one in card["processes"] if one in held.get(card["index"], [])]}
        if "processes" in card
        else card
        for card in cards
    ]


def _processes(device: Device) -> dict[str, Any]:
    return readings.present(processes=readings.processes(device))


def judge(
    seen: Seen, of_box: Sequence[BoxCheck] = box.CHECKS, of_card: Sequence[CardCheck] = CARD_CHECKS
) -> Iterator[dict[str, Any]]:
    """Each check's finding: of the box first, then GPU by GPU; one that does not answer is judged by that alone."""
    for check in of_box:
        yield _said(check, None, _asked(check, seen))
    for card in seen.cards:
        yield _said(use.answers, card["index"], _asked(use.answers, card, seen))
        if "problem" not in card:
            for one in of_card:
                yield _said(one, card["index"], _asked(one, card, seen))


def names() -> list[str]:
    """The names of all checks, as findings and the pillar have them."""
    return [_name(check) for check in (*box.CHECKS, use.answers, *CARD_CHECKS)]


def _name(check: BoxCheck | CardCheck) -> str:
    return check.__name__.replace("_", " ")


def _asked(check: Any, *args: Any) -> Finding:
    try:
        found: Finding = check(*args)
    except Exception as err:
        # a check that breaks must neither hide the others nor count as passed
        said = f"this check is broken: {type(err).__name__}: {err}"[:200]
        return Finding(WARNING, said, "a defect of Vault Cube: please report it with this line")
    return found


def _said(check: BoxCheck | CardCheck, gpu: int | None, found: Finding) -> dict[str, Any]:
    said = {"check": _name(check), "gpu": gpu, **vars(found)}
    return {name: value for name, value in said.items() if value not in (None, "")}


def accepted(one: dict[str, Any], reasons: Mapping[str, Any]) -> dict[str, Any]:
    """Apply the pillar's acceptances to a finding: an accepted warning is ok, a fault only with `faults: true`.

    reasons: pillar gpu:health:accepted, check → reason, or {reason, gpus, faults}.
    """
    entry = reasons.get(one["check"])
    if isinstance(entry, str):
        entry = {"reason": entry}
    if entry is None or one["verdict"] not in (WARNING, FAULT):
        return one
    elsewhere = entry.get("gpus") is not None and one.get("gpu") not in entry["gpus"]
    if elsewhere or (one["verdict"] == FAULT and not entry.get("faults")):
        return one
    return {**one, "verdict": OK, "evidence": f"{one['evidence']} (accepted: {entry['reason']})"}


__all__ = ["FAULT", "NOT_APPLICABLE", "OK", "WARNING", "accepted", "health", "judge", "look", "names"]
