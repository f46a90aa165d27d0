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
    """Does the GPU answer, with each function that it supports?"""
    if "problem" in card:
        from vault_cube.gpu.nvml.failures import TODO

        evidence = str(card["problem"]).removeprefix(f"GPU {card['index']}: ") + _unclaimed(seen)
        return fault(evidence, TODO.get(card.get("kind", ""), "`journalctl -k -g NVRM` shows more"))
    errors = card.get("errors", {})
    if errors:
        evidence = ", ".join(f"{function}: {why}" for function, why in errors.items())
        return warning(evidence, f"`journalctl -k -g NVRM`; if it stays: {RESET}")
    missing = [name for name in ("name", "uuid", "memory_mib") if not card.get(name)]
    if missing:
        return warning(f"without {', '.join(missing)}", "install the driver's packages again")
    dropped = "".join(
        f"; dropped as impossible: {name}: {value}" for name, value in card.get("implausible", {}).items()
    )
    return ok(f"all{dropped}")


def _unclaimed(seen: Seen) -> str:
    """List the XIDs at addresses of no answering GPU; a lost GPU no longer reports its address."""
    buses = {host.slot(card["pcie"]["bus_id"]) for card in seen.answering if "bus_id" in card.get("pcie", {})}
    xids = {
        (entry["bus_id"], entry["xid"]): entry["means"]
        for entry in seen.log or ()
        if host.slot(entry["bus_id"]) not in buses
    }
    return "".join(f"; the log has XID {code} ({means}) at {bus}" for (bus, code), means in sorted(xids.items()))


def recovery(card: Card, seen: Seen) -> Verdict:
    """Does the driver request a reset or a reboot? Source: nvml.h, nvmlGpuRecoveryAction_t."""
    asked = card.get("recovery")
    if asked is None:
        return not_applicable("the driver does not report it")
    if asked == "none":
        return ok("nothing requested")
    what = asked.replace("_", " ")
    return fault(f"the driver requests: {what}", f"stop what uses the GPU, then {what}")


def xids(card: Card, seen: Seen) -> Verdict:
    """Which XIDs are in the kernel log of this boot and of the previous one, and what do they mean?"""
    if seen.log is None:
        return not_applicable("the kernel log cannot be read: run this as root")
    acceptance = seen.rules.accepted.get("xids")
    accepted = acceptance.xids if isinstance(acceptance, Acceptance) else []
    fresh = seen.now - seen.rules.xid_hours * 3600
    own = _of_card(card, seen.log)
    news = [entry for entry in own if entry["weight"] == "fault" or entry["at"] > fresh]
    borne = [entry for entry in news if entry["xid"] in accepted]
    news = [entry for entry in news if entry["xid"] not in accepted]
    crash = [
        entry
        for entry in _of_card(card, seen.before or ())
        if entry["weight"] == "fault" and entry["at"] > fresh and entry["xid"] not in accepted
    ]
    evidence = _listed(news) + (f"; in the previous boot: {_listed(crash)}" if crash else "")
    evidence += f"; accepted: {_listed(borne)}" if borne else ""
    todo = "; ".join(dict.fromkeys(entry["todo"] for entry in (*news, *crash)))
    weights = {entry["weight"] for entry in news}
    if "fault" in weights:
        return fault(evidence, todo)
    if weights & {"program", "warning"} or crash:
        return warning(evidence, todo)
    if not news:
        evidence = (f"none, and {len(own) - len(borne)} old" if len(own) > len(borne) else "none since boot") + evidence
    return ok(evidence)


def _of_card(card: Card, log: Sequence[Xid]) -> list[Xid]:
    slot = host.slot(card.get("pcie", {}).get("bus_id", ""))
    own = [entry for entry in log if slot and host.slot(entry["bus_id"]) == slot]
    # of the recovery actions only the last one counts
    asked = [entry for entry in own if entry["xid"] == RECOVERY_CHANGED]
    return [entry for entry in own if entry["xid"] != RECOVERY_CHANGED or entry is asked[-1]]


def _listed(xids: Sequence[Xid]) -> str:
    """Count XIDs by code and, with MIG, by instance: 79 (the GPU has fallen off the bus) 2 times."""
    times: dict[tuple[int, str], int] = {}
    for entry in xids:
        key = (entry["xid"], entry.get("instance", ""))
        times[key] = times.get(key, 0) + 1
    means = {entry["xid"]: entry["means"] for entry in xids}
    return "; ".join(
        f"{code} ({means[code]}{f', {instance}' if instance else ''}) {number} times"
        for (code, instance), number in sorted(times.items())
    )


def performance(card: Card, seen: Seen) -> Verdict:
    """Does a busy GPU run at more than idle clocks?"""
    share, state = card.get("utilisation"), card.get("performance_state")
    if share is None:
        return not_applicable("the driver does not report it")
    clock = f" at {card['clock_mhz']} MHz" if "clock_mhz" in card else ""
    evidence = f"{share:.0%} busy" + ("" if state is None else f", P{state}") + clock
    if latched(card):
        return warning(
            f"{evidence}, and no process uses it: its utilisation is stuck",
            "start and end a CUDA program on it (`layer.check frameworks` does): that resets the counter",
        )
    if share >= FULL_LOAD and rests(card):
        return warning(f"{evidence}: it runs at idle clocks", f"end what runs on it; {RESET}")
    return ok(evidence)


def persistence(card: Card, seen: Seen) -> Verdict:
    """Does the driver keep the GPU initialised between programs, as in the pillar?"""
    mode, wanted = card.get("persistence"), seen.settings.driver.persistence
    if mode is None:
        return not_applicable("the driver does not report it")
    if wanted and mode != "enabled":
        return warning(f"{mode} (driver:persistence)", "`systemctl restart nvidia-persistenced`")
    return ok(mode)


def compute_mode(card: Card, seen: Seen) -> Verdict:
    """Is the compute mode that of the pillar?"""
    mode, wanted = card.get("compute_mode"), seen.settings.gpu.compute_mode
    if mode is None:
        return not_applicable("the driver does not report it")
    if mode == wanted:
        return ok(mode)
    status: Status = FAULT if mode == "prohibited" else WARNING
    return Verdict(
        status, f"{mode} instead of {wanted} (gpu:compute_mode)", f"`nvidia-smi -i {card['index']} -c {wanted}`"
    )


def mig(card: Card, seen: Seen) -> Verdict:
    """Is the MIG mode that of the pillar?"""
    mode, pending = card.get("mig"), card.get("mig_pending")
    if mode is None:
        return not_applicable("this card has no MIG")
    if pending and pending != mode:
        return warning(f"{mode}, {pending} after the next reset", RESET)
    wanted = "enabled" if seen.settings.gpu.mig else "disabled"
    if mode != wanted:
        return warning(
            f"{mode} (gpu:mig)", f"`nvidia-smi -i {card['index']} -mig {int(wanted == 'enabled')}`, then reset"
        )
    return ok(mode)


def processes(card: Card, seen: Seen) -> Verdict:
    """Which processes hold memory? Those outside containers and services that hold much are often forgotten."""
    holders, most = card.get("processes"), seen.rules.held_mib
    if holders is None:
        return not_applicable("the driver does not report it")
    shown, loose, gone = [], [], []
    for process in holders:
        known = host.process(seen.machine, process["pid"])
        held = process.get("memory_mib")
        text = f"{known['name'] if known else 'pid'} {process['pid']}" + ("" if held is None else f" {held} MiB")
        shown.append(text)
        if known is None:
            gone.append(text)
        elif known["where"] == "session" and held is not None and held > most:
            loose.append(text)
    if gone:
        return warning(
            f"{', '.join(gone)}: no such process in this PID namespace, at two readings",
            f"it runs in another PID namespace, or crashed without freeing its memory: {RESET}",
        )
    if loose:
        return warning(f"{', '.join(loose)} outside container and service", "end it if nobody needs it")
    return ok(", ".join(shown) or "nobody")


CHECKS = (recovery, xids, performance, persistence, compute_mode, mig, processes)
