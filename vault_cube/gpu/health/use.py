"""Checks of how a GPU is used and set, and of what the driver reported about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vault_cube.gpu.health.seen import FULL_LOAD, Seen, latched, rests
from vault_cube.gpu.nvml.failures import RESET
from vault_cube.gpu.read import host
from vault_cube.settings.gpu import Acceptance
from vault_cube.verdicts import FAULT, WARNING, Status, Verdict, fault, not_applicable, ok, warning

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, Xid

RECOVERY_CHANGED = 154


def answers(card: Card, seen: Seen) -> Verdict:
    """Does the GPU answer, and each function that it has?"""
    if "problem" in card:
        from vault_cube.gpu.nvml.failures import TODO

        said = str(card["problem"]).removeprefix(f"GPU {card['index']}: ") + _unclaimed(seen)
        return fault(said, TODO.get(card.get("kind", ""), "`journalctl -k -g NVRM` says more"))
    errors = card.get("errors", {})
    if errors:
        said = ", ".join(f"{function}: {why}" for function, why in errors.items())
        return warning(said, f"`journalctl -k -g NVRM`; if it stays: {RESET}")
    missing = [name for name in ("name", "uuid", "memory_mib") if not card.get(name)]
    if missing:
        return warning(f"without {', '.join(missing)}", "install the driver's packages again")
    dropped = "".join(
        f"; dropped as impossible: {name}: {value}" for name, value in card.get("implausible", {}).items()
    )
    return ok(f"all{dropped}")


def _unclaimed(seen: Seen) -> str:
    """XIDs of a device that no answering GPU has: a lost one does not give its address any more."""
    buses = {host.slot(card["pcie"]["bus_id"]) for card in seen.answering if "bus_id" in card.get("pcie", {})}
    xids = {
        (one["bus_id"], one["xid"]): one["means"] for one in seen.log or () if host.slot(one["bus_id"]) not in buses
    }
    return "".join(f"; the log has XID {code} ({means}) at {bus}" for (bus, code), means in sorted(xids.items()))


def recovery(card: Card, seen: Seen) -> Verdict:
    """Does the driver ask for a reset or a reboot? Source: nvml.h, nvmlGpuRecoveryAction_t."""
    asked = card.get("recovery")
    if asked is None:
        return not_applicable("the driver does not tell")
    if asked == "none":
        return ok("nothing is asked for")
    what = asked.replace("_", " ")
    return fault(f"the driver asks for: {what}", f"stop what uses the GPU, then {what}")


def xids(card: Card, seen: Seen) -> Verdict:
    """Which XIDs has the kernel's log of this boot, and of the one before, and what do they mean?"""
    if seen.log is None:
        return not_applicable("the kernel's log cannot be read: run it as root")
    entry = seen.rules.accepted.get("xids")
    accepted = entry.xids if isinstance(entry, Acceptance) else []
    fresh = seen.now - seen.rules.xid_hours * 3600
    own = _of_card(card, seen.log)
    news = [one for one in own if one["weight"] == "fault" or one["at"] > fresh]
    borne = [one for one in news if one["xid"] in accepted]
    news = [one for one in news if one["xid"] not in accepted]
    crash = [
        one
        for one in _of_card(card, seen.before or ())
        if one["weight"] == "fault" and one["at"] > fresh and one["xid"] not in accepted
    ]
    said = _listed(news) + (f"; in the boot before: {_listed(crash)}" if crash else "")
    said += f"; accepted: {_listed(borne)}" if borne else ""
    todo = "; ".join(dict.fromkeys(one["todo"] for one in (*news, *crash)))
    weights = {one["weight"] for one in news}
    if "fault" in weights:
        return fault(said, todo)
    if weights & {"program", "warning"} or crash:
        return warning(said, todo)
    if not news:
        said = (f"none, and {len(own) - len(borne)} old" if len(own) > len(borne) else "none since boot") + said
    return ok(said)


def _of_card(card: Card, log: Sequence[Xid]) -> list[Xid]:
    slot = host.slot(card.get("pcie", {}).get("bus_id", ""))
    own = [one for one in log if slot and host.slot(one["bus_id"]) == slot]
    # what the driver asks for to recover is what it asked for last
    asked = [one for one in own if one["xid"] == RECOVERY_CHANGED]
    return [one for one in own if one["xid"] != RECOVERY_CHANGED or one is asked[-1]]


def _listed(xids: Sequence[Xid]) -> str:
    """XIDs by code and, with MIG, by instance: 79 (the GPU has fallen off the bus) 2 times."""
    times: dict[tuple[int, str], int] = {}
    for one in xids:
        key = (one["xid"], one.get("instance", ""))
        times[key] = times.get(key, 0) + 1
    means = {one["xid"]: one["means"] for one in xids}
    return "; ".join(
        f"{code} ({means[code]}{f', {instance}' if instance else ''}) {number} times"
        for (code, instance), number in sorted(times.items())
    )


def performance(card: Card, seen: Seen) -> Verdict:
    """Does a busy GPU work at the clocks of one that works?"""
    share, state = card.get("utilisation"), card.get("performance_state")
    if share is None:
        return not_applicable("the driver does not tell")
    clock = f" at {card['clock_mhz']} MHz" if "clock_mhz" in card else ""
    said = f"{share:.0%} busy" + ("" if state is None else f", P{state}") + clock
    if latched(card):
        return warning(
            f"{said}, and no process uses it: its utilisation is stuck",
            "start a CUDA program on it and end it (`layer.check frameworks` does): that frees the counter",
        )
    if share >= FULL_LOAD and rests(card):
        return warning(f"{said}: it works at the clocks of a GPU at rest", f"end what runs on it; {RESET}")
    return ok(said)


def persistence(card: Card, seen: Seen) -> Verdict:
    """Does the driver keep the GPU awake between programs, as the pillar says?"""
    mode, wanted = card.get("persistence"), seen.settings.driver.persistence
    if mode is None:
        return not_applicable("the driver does not tell")
    if wanted and mode != "enabled":
        return warning(f"{mode} (driver:persistence)", "`systemctl restart nvidia-persistenced`")
    return ok(mode)


def compute_mode(card: Card, seen: Seen) -> Verdict:
    """May programs use the GPU, as many as the pillar says?"""
    mode, wanted = card.get("compute_mode"), seen.settings.gpu.compute_mode
    if mode is None:
        return not_applicable("the driver does not tell")
    if mode == wanted:
        return ok(mode)
    status: Status = FAULT if mode == "prohibited" else WARNING
    return Verdict(
        status, f"{mode} instead of {wanted} (gpu:compute_mode)", f"`nvidia-smi -i {card['index']} -c {wanted}`"
    )


def mig(card: Card, seen: Seen) -> Verdict:
    """Is the GPU split, or whole, as the pillar says?"""
    mode, pending = card.get("mig"), card.get("mig_pending")
    if mode is None:
        return not_applicable("this card cannot be split")
    if pending and pending != mode:
        return warning(f"{mode}, {pending} after the next reset", RESET)
    wanted = "enabled" if seen.settings.gpu.mig else "disabled"
    if mode != wanted:
        return warning(
            f"{mode} (gpu:mig)", f"`nvidia-smi -i {card['index']} -mig {int(wanted == 'enabled')}`, then reset"
        )
    return ok(mode)


def processes(card: Card, seen: Seen) -> Verdict:
    """Who holds memory? What holds much outside a container or a service was mostly forgotten."""
    holders, most = card.get("processes"), seen.rules.held_mib
    if holders is None:
        return not_applicable("the driver does not tell")
    said, loose, gone = [], [], []
    for one in holders:
        known = host.process(seen.machine, one["pid"])
        held = one.get("memory_mib")
        text = f"{known['name'] if known else 'pid'} {one['pid']}" + ("" if held is None else f" {held} MiB")
        said.append(text)
        if known is None:
            gone.append(text)
        elif known["where"] == "session" and held is not None and held > most:
            loose.append(text)
    if gone:
        return warning(
            f"{', '.join(gone)}: no such process here, seen twice",
            f"it runs in another PID namespace (look there), or ended badly and left its memory: {RESET}",
        )
    if loose:
        return warning(f"{', '.join(loose)} outside container and service", "end it, if nobody needs it")
    return ok(", ".join(said) or "nobody")


CHECKS = (recovery, xids, performance, persistence, compute_mode, mig, processes)
