"""Checks of what connects a GPU: PCIe and NVLink."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vault_cube.gpu.health.box import is_model
from vault_cube.gpu.health.seen import Seen, busy
from vault_cube.gpu.nvml import failures
from vault_cube.gpu.read import host
from vault_cube.verdicts import Verdict, fault, not_applicable, ok, warning

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card

RESEAT = "power off, reseat card and riser, check the slot's BIOS settings; `pcie_aspm=off` if links drop"


def pcie_slot(card: Card, seen: Seen) -> Verdict:
    """Do slot and card support the generation and width of the pillar, or else those of the card?"""
    pcie = card.get("pcie", {})
    if "generation_max" not in pcie or "width_max" not in pcie:
        return not_applicable("the driver does not report it")
    generation, width = _wanted(card, seen)
    evidence = f"gen {pcie['generation_max']} x{pcie['width_max']}"
    if pcie["generation_max"] < generation or pcie["width_max"] < width:
        return fault(f"{evidence}, not gen {generation} x{width} (driver:gates)", RESEAT)
    if pcie["generation_max"] < pcie.get("generation_gpu", 0) and not seen.settings.driver.gates.pcie_generation:
        return warning(
            f"{evidence}; the card supports gen {pcie['generation_gpu']}", "another slot, or its BIOS setting"
        )
    return ok(evidence)


def pcie_link(card: Card, seen: Seen) -> Verdict:
    """Does the link run at full generation and width under load? An idle link drops to generation 1 to save power."""
    pcie, loaded = card.get("pcie", {}), seen.loaded.get(card["index"], {})
    if "problem" in loaded:
        return warning(str(loaded["problem"]), "without load, the speed of an idle link means nothing")
    now = loaded or pcie
    if "generation" not in now or "width" not in now:
        return not_applicable("the driver does not report it")
    generation, width = _wanted(card, seen)
    evidence = f"gen {now['generation']} x{now['width']}"
    if now["generation"] >= generation and now["width"] >= width:
        return ok(evidence + (" under load" if loaded else ""))
    wanted = f"{evidence} instead of gen {generation} x{width}"
    if loaded or busy(card):
        return fault(f"{wanted} under load", RESEAT)
    if now["width"] < width:
        # an idle link lowers its speed, not its width
        return warning(f"{wanted}, idle", f"`gpu.health load=True` shows it under load; then {RESEAT}")
    return not_applicable(f"{evidence}, idle: the link saves power; `gpu.health load=True` measures it under load")


def _wanted(card: Card, seen: Seen) -> tuple[int, int]:
    """Return the expected generation and width: those of the pillar, or else what card and slot support together."""
    pcie, gates = card.get("pcie", {}), seen.settings.driver.gates
    return gates.pcie_generation or pcie.get("generation_max", 0), gates.pcie_width or pcie.get("width_max", 0)


def pcie_errors(card: Card, seen: Seen) -> Verdict:
    """Does the link lose packets? Replays are counted by the driver, errors (AER) by the kernel."""
    pcie, rules = card.get("pcie", {}), seen.rules
    errors = host.aer(seen.machine, pcie["bus_id"]) if "bus_id" in pcie else {}
    if "replays" not in pcie and not errors:
        return not_applicable("neither the driver nor the kernel counts errors")
    evidence = ", ".join(
        [f"{pcie['replays']} replays"] * ("replays" in pcie) + [f"{n} {kind}" for kind, n in errors.items()]
    )
    loaded = seen.loaded.get(card["index"], {}).get("replays", 0)
    if errors.get("fatal", 0):
        return fault(f"{evidence} since boot", RESEAT)
    if loaded > rules.pcie_replays_loaded:
        return warning(f"{evidence}; {loaded} replays during the load (pcie_replays_loaded)", RESEAT)
    if errors.get("nonfatal", 0):
        return warning(f"{evidence} since boot", RESEAT)
    # counted since the driver was loaded; that time is not known, so use the time since boot
    days = max(1.0, (host.uptime_s(seen.machine) or 0) / 86400)
    limits = {"replays": rules.pcie_replays * days, "correctable": rules.pcie_corrected * days}
    if pcie.get("replays", 0) > limits["replays"] or errors.get("correctable", 0) > limits["correctable"]:
        limit = f"more than {limits['replays']:.0f} replays or {limits['correctable']:.0f} correctable in {days:.0f} d"
        return warning(f"{evidence}: {limit}", RESEAT)
    return ok(evidence)


def nvlink(card: Card, seen: Seen) -> Verdict:
    """Are all NVLinks of this card up and without errors? A card with bridges has fewer than its chip."""
    links = card.get("nvlinks") or []
    up = [link for link in links if link["active"]]
    if not up:
        return not_applicable(f"none of {len(links)} is connected" if links else "no NVLink on this card")
    counted = [link["errors"] for link in up if "errors" in link]
    errors = {name: [sum(link[c] for c in counters if c in link) for link in counted if link.keys() & set(counters)]
              for name, counters in COUNTERS.items()}  # fmt: skip
    sums = {name: sum(of_links) for name, of_links in errors.items() if of_links}
    counts = ", ".join(f"{n} {name}" for name, n in sums.items()) or "error counters not available"
    wanted = _links_wanted(card, seen)
    evidence = f"{len(up)} of {len(links)} up; {counts}"
    if len(up) < wanted:
        return fault(f"{evidence}; {wanted} expected", f"{failures.RESET}; check bridge, cables and connectors")
    if any(sums.values()):
        return warning(evidence, "watch it; if the errors increase, replace the bridge or cable")
    return ok(evidence)


# cards in a PCIe slot, whose links need bridges; cards on a board (SXM) have all links
BRIDGED = re.compile(r"PCIe|NVL\b|RTX|Quadro|TITAN|\bA(10|16|30|40)\b", re.IGNORECASE)
COUNTERS = {"replay": ("replay",), "recovery": ("recovery",), "crc": ("crc_flit", "crc_data")}


def _links_wanted(card: Card, seen: Seen) -> int:
    """Return the number of links that must be up.

    The pillar's number for the model, or the highest number on the other cards of the model if bridges connect them, or
    else all links.
    """
    name, links = card.get("name", ""), card["nvlinks"]
    known = [count for model, count in seen.rules.nvlinks.items() if is_model(name, model)]
    if known:
        return int(min(known))
    peers = {link["peer"] for link in links if "peer" in link}
    if "gpu" in peers or (not peers and BRIDGED.search(name)):
        siblings = [other for other in seen.answering if other.get("name") == name]
        return max(len([link for link in other.get("nvlinks", ()) if link["active"]]) for other in siblings)
    return len(links)


CHECKS = (pcie_slot, pcie_link, pcie_errors, nvlink)
