"""Checks of how a GPU is used and set, and of what the driver told of it."""

from __future__ import annotations

from vault_cube.gpu.health.finding import FAULT, WARNING, Card, Finding, Seen, lacking, ok
from vault_cube.gpu.read import host


def answers(card: Card, seen: Seen) -> Finding:
    """Does the GPU answer every question that it can answer?"""
    if "problem" in card:
        from vault_cube.gpu.nvml.failures import TODO

        said = str(card["problem"]).removeprefix(f"GPU {card['index']}: ") + _unclaimed(seen)
        return Finding(FAULT, said, TODO.get(card.get("kind", ""), "`journalctl -k -g NVRM` says more"))
    errors = card.get("errors", {})
    if errors:
        said = ", ".join(f"{function}: {why}" for function, why in errors.items())
        return Finding(WARNING, said, "`journalctl -k -g NVRM`; if it stays, reset the GPU")
    missing = [name for name in ("name", "uuid", "memory_mib") if not card.get(name)]
    if missing:
        return Finding(WARNING, f"without {', '.join(missing)}", "install the driver's packages again")
    return ok("all")


def _unclaimed(seen: Seen) -> str:
    """XIDs of a device that no answering GPU has: a lost one does not tell its address any more."""
    buses = [host.sysfs(card["pcie"]["bus_id"]) for card in seen.answering if "bus_id" in card.get("pcie", {})]
    told = {
        (one["bus_id"], one["xid"]): one["means"]
        for one in seen.log or ()
        if not any(bus.startswith(one["bus_id"]) for bus in buses)
    }
    return "".join(f"; the log has XID {code} ({means}) at {bus}" for (bus, code), means in sorted(told.items()))


def recovery(card: Card, seen: Seen) -> Finding:
    """Does the driver ask for a reset or a reboot? Source: nvml.h, nvmlGpuRecoveryAction_t."""
    asked = card.get("recovery")
    if asked is None:
        return lacking("the driver does not tell")
    if asked == "none":
        return ok("nothing is asked for")
    what = asked.replace("_", " ")
    return Finding(FAULT, f"the driver asks for: {what}", f"stop what uses the GPU, then {what}")


def xids(card: Card, seen: Seen) -> Finding:
    """Which XIDs has the kernel's log of this boot, and what do they mean?"""
    if seen.log is None:
        return lacking("the kernel's log may not be read: run it as root")
    bus = host.sysfs(card["pcie"]["bus_id"]) if "bus_id" in card.get("pcie", {}) else ""
    own = [one for one in seen.log if bus and bus.startswith(one["bus_id"])]
    fresh = seen.rules["xid_hours"] * 3600
    news = [one for one in own if one["weight"] == "fault" or seen.now - one["at"] < fresh]
    if not news:
        return ok(f"none, and {len(own)} old" if own else "none since boot")
    by_code: dict[int, int] = {}
    for one in news:
        by_code[one["xid"]] = by_code.get(one["xid"], 0) + 1
    means = {one["xid"]: one for one in news}
    said = "; ".join(f"{code} ({means[code]['means']}) {times} times" for code, times in sorted(by_code.items()))
    todo = "; ".join(dict.fromkeys(one["todo"] for one in means.values()))
    weights = {one["weight"] for one in news}
    if "fault" in weights:
        return Finding(FAULT, said, todo)
    return Finding(WARNING, said, todo) if "program" in weights else ok(said)


def persistence(card: Card, seen: Seen) -> Finding:
    """Does the driver keep the GPU awake between programs, as the pillar says?"""
    mode, wanted = card.get("persistence"), seen.pillar["driver"]["persistence"]
    if mode is None:
        return lacking("the driver does not tell")
    if wanted and mode != "enabled":
        return Finding(WARNING, f"{mode} (driver:persistence)", "`systemctl restart nvidia-persistenced`")
    return ok(mode)


def compute_mode(card: Card, seen: Seen) -> Finding:
    """May programs use the GPU, as many as the pillar says?"""
    mode, wanted = card.get("compute_mode"), seen.pillar["gpu"]["compute_mode"]
    if mode is None:
        return lacking("the driver does not tell")
    if mode == wanted:
        return ok(mode)
    verdict = FAULT if mode == "prohibited" else WARNING
    return Finding(
        verdict, f"{mode} instead of {wanted} (gpu:compute_mode)", f"`nvidia-smi -i {card['index']} -c {wanted}`"
    )


def mig(card: Card, seen: Seen) -> Finding:
    """Is the GPU split, or whole, as the pillar says?"""
    mode, pending = card.get("mig"), card.get("mig_pending")
    if mode is None:
        return lacking("this card cannot be split")
    if pending and pending != mode:
        return Finding(WARNING, f"{mode}, {pending} after the next reset", "reset the GPU or reboot")
    wanted = "enabled" if seen.pillar["gpu"]["mig"] else "disabled"
    if mode != wanted:
        return Finding(
            WARNING, f"{mode} (gpu:mig)", f"`nvidia-smi -i {card['index']} -mig {int(wanted == 'enabled')}`, then reset"
        )
    return ok(mode)


def processes(card: Card, seen: Seen) -> Finding:
    """Who holds memory? What holds much outside a container or a service was mostly forgotten."""
    holders, most = card.get("processes", ()), seen.rules["held_mib"]
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
        return Finding(
            WARNING,
            f"{', '.join(gone)}: no such process here",
            "it ended badly or runs in another namespace: reset the GPU",
        )
    if loose:
        return Finding(WARNING, f"{', '.join(loose)} outside container and service", "end it, if nobody needs it")
    return ok(", ".join(said) or "nobody")


CHECKS = (recovery, xids, persistence, compute_mode, mig, processes)
