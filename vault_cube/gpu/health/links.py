"""Checks of what connects a GPU: PCIe and NVLink."""

from __future__ import annotations

from vault_cube.gpu.health.finding import FAULT, WARNING, Card, Finding, Seen, busy, lacking, ok
from vault_cube.gpu.read import host

RESEAT = "power off, reseat card and riser, look at the slot's BIOS settings; `pcie_aspm=off` where links drop"


def pcie_slot(card: Card, seen: Seen) -> Finding:
    """Do slot and card reach together what the pillar wants, or else what the card can?"""
    pcie = card.get("pcie", {})
    if "generation_max" not in pcie or "width_max" not in pcie:
        return lacking("the driver does not tell")
    generation, width = _wanted(card, seen)
    said = f"gen {pcie['generation_max']} x{pcie['width_max']}"
    if pcie["generation_max"] < generation or pcie["width_max"] < width:
        return Finding(FAULT, f"{said}, not gen {generation} x{width} (driver:gates)", RESEAT)
    if pcie["generation_max"] < pcie.get("generation_gpu", 0) and not seen.pillar["driver"]["gates"]["pcie_generation"]:
        return Finding(
            WARNING, f"{said}; the card can gen {pcie['generation_gpu']}", "another slot, or its BIOS setting"
        )
    return ok(said)


def pcie_link(card: Card, seen: Seen) -> Finding:
    """Has the link its full generation and width under load? An idle link drops to generation 1 to save power."""
    pcie, loaded = card.get("pcie", {}), seen.loaded.get(card["index"], {})
    if "problem" in loaded:
        return Finding(WARNING, str(loaded["problem"]), "without load an idle link tells nothing")
    now = loaded or pcie
    if "generation" not in now or "width" not in now:
        return lacking("the driver does not tell")
    generation, width = _wanted(card, seen)
    said = f"gen {now['generation']} x{now['width']}"
    if now["generation"] >= generation and now["width"] >= width:
        return ok(said + (" under load" if loaded else ""))
    wanted = f"{said} instead of gen {generation} x{width}"
    if loaded or busy(card):
        return Finding(FAULT, f"{wanted} under load", RESEAT)
    if now["width"] < width:
        # lanes do not sleep: only the speed does
        return Finding(WARNING, f"{wanted}, idle", f"`gpu.health load=True` shows it under load; then {RESEAT}")
    return lacking(f"{said}, idle: the link sleeps; `gpu.health load=True` wakes it")


def _wanted(card: Card, seen: Seen) -> tuple[int, int]:
    """Generation and width: the pillar's, else what card and slot can do together."""
    pcie, gates = card.get("pcie", {}), seen.pillar["driver"]["gates"]
    return gates["pcie_generation"] or pcie.get("generation_max", 0), gates["pcie_width"] or pcie.get("width_max", 0)


def pcie_errors(card: Card, seen: Seen) -> Finding:
    """Does the link lose packets? Replays as the driver counts them, errors as the kernel does (AER)."""
    pcie, rules = card.get("pcie", {}), seen.rules
    errors = host.aer(seen.machine, pcie["bus_id"]) if "bus_id" in pcie else {}
    if "replays" not in pcie and not errors:
        return lacking("neither driver nor kernel counts")
    said = ", ".join(
        [f"{pcie['replays']} replays"] * ("replays" in pcie) + [f"{n} {kind}" for kind, n in errors.items()]
    )
    if errors.get("fatal", 0) or errors.get("nonfatal", 0):
        return Finding(FAULT, said, RESEAT)
    if pcie.get("replays", 0) > rules["pcie_replays"] or errors.get("correctable", 0) > rules["pcie_corrected"]:
        limits = f"more than {rules['pcie_replays']} replays or {rules['pcie_corrected']} correctable"
        return Finding(WARNING, f"{said}: {limits}", RESEAT)
    return ok(said)


def nvlink(card: Card, seen: Seen) -> Finding:
    """Are all links up, and without errors?"""
    links = card.get("nvlinks") or []
    up = [link for link in links if link["active"]]
    if not up:
        return lacking(f"none of {len(links)} is connected" if links else "no NVLink on this card")
    errors = {name: sum(link.get("errors", {}).get(name, 0) for link in up) for name in ("replay", "recovery")}
    errors["crc"] = sum(link.get("errors", {}).get(name, 0) for link in up for name in ("crc_flit", "crc_data"))
    said = f"{len(up)} of {len(links)} up; " + ", ".join(f"{n} {name}" for name, n in errors.items())
    if len(up) < len(links):
        return Finding(FAULT, said, "reset the GPU; look at bridge, cables and connectors")
    if any(errors.values()):
        return Finding(WARNING, said, "watch it; errors that grow ask for another bridge or cable")
    return ok(said)


CHECKS = (pcie_slot, pcie_link, pcie_errors, nvlink)
