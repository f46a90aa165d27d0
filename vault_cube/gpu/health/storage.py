"""Checks of a GPU's memory: errors, what was done about them, and whether the host reaches all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vault_cube.gpu.health.seen import Seen
from vault_cube.gpu.nvml.failures import RESET
from vault_cube.verdicts import Verdict, fault, not_applicable, ok, warning

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card


def ecc(card: Card, seen: Seen) -> Verdict:
    """Were there memory errors? Volatile: since the driver was loaded; aggregate: in the card's life."""
    errors = card.get("ecc_errors")
    if errors is None:
        return not_applicable("no ECC on this card")
    now, ever = errors.get("volatile", {}), errors.get("aggregate", {})
    said = f"since loading {_counts(now)}; ever {_counts(ever)}"
    if now.get("uncorrected", 0):
        return fault(said, f"results since then may be wrong: {RESET}; if it happens again, replace the card")
    if card.get("sram_exceeded"):
        return fault(f"{said}; SRAM: more uncorrected errors than NVIDIA allows", "replace the card")
    if now.get("corrected", 0) > seen.rules.ecc_corrected:
        return warning(f"{said}; > {seen.rules.ecc_corrected} (ecc_corrected)", "watch it; burn it in: gpu.stress")
    # errors of an earlier life were dealt with: what they left behind is judged by `remapped rows`
    return ok(said)


def _counts(errors: Mapping[str, int]) -> str:
    return ", ".join(f"{errors[name]} {name}" for name in ("corrected", "uncorrected") if name in errors) or "unknown"


def ecc_mode(card: Card, seen: Seen) -> Verdict:
    """Is ECC on, or off as the card ships, and is the mode the one that was asked for?"""
    mode, pending = card.get("ecc"), card.get("ecc_pending")
    if mode is None:
        return not_applicable("no ECC on this card")
    if pending and mode != pending:
        return warning(f"{mode}, {pending} after the next reset", RESET)
    shipped = card.get("ecc_default") or ("disabled" if "GeForce" in card.get("name", "") else "enabled")
    if mode == "disabled" and shipped == "disabled":
        return ok("disabled, as this card ships")
    if mode == "disabled":
        return warning("disabled: memory errors stay unseen", f"`nvidia-smi -e 1`, then {RESET}")
    return ok(mode)


def inforom(card: Card, seen: Seen) -> Verdict:
    """Can the card's own memory for serial number, ECC counters and limits be read?"""
    unreadable = card.get("inforom_corrupted")
    if unreadable:
        return warning(
            f"corrupted ({', '.join(dict.fromkeys(unreadable))})",
            "counters of the card's life are lost: ask the vendor to replace it; it computes as before",
        )
    return ok(card["inforom"]) if "inforom" in card else not_applicable("this card tells of no inforom")


def remapped_rows(card: Card, seen: Seen) -> Verdict:
    """Were rows of memory replaced (Ampere and newer)? Source: NVIDIA, "GPU Memory Error Management".

    A row that was replaced is no fault (gpud, components/accelerator/nvidia/remapped-rows): a full bank is.
    """
    rows, spare, most = card.get("remapped_rows"), card.get("spare_rows"), seen.rules.remapped_rows
    # a consumer card answers with zeros, too: that is no support
    if not rows or ("ecc_errors" not in card and not any(rows.values())):
        return not_applicable("this card remaps no rows")
    said = ", ".join(f"{count} {name}" for name, count in rows.items())
    if rows["failed"]:
        return fault(said, "the card has no spare rows there: replace it")
    if rows["uncorrected"] >= most:
        return fault(f"{said}; {most} is the limit (remapped_rows)", "run NVIDIA's field diagnostic; replace it")
    if rows["pending"]:
        return warning(said, f"the row is replaced by a reset: {RESET}")
    if spare and spare["none"]:
        return warning(f"{said}; {spare['none']} bank(s) without a spare row", "burn it in (gpu.stress)")
    return ok(said)


def retired_pages(card: Card, seen: Seen) -> Verdict:
    """Were pages of memory taken out of use (before Ampere)? Source: NVIDIA, "Dynamic Page Retirement", RMA policy."""
    pages, rules = card.get("retired_pages"), seen.rules.retired_pages
    if not pages:
        return not_applicable("this card retires no pages")
    said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in pages.items())
    if pages.get("single_bit", 0) + pages.get("double_bit", 0) >= rules.fault:
        return fault(said, f"replace the card: {rules.fault} retired pages are its limit")
    if pages.get("pending"):
        return warning(said, f"the page is taken out by a reset: {RESET}")
    if pages.get("double_bit", 0) > rules.double_bit:
        return warning(said, "if double bit still grows, replace the card; burn it in: gpu.stress")
    return ok(said)


def resizable_bar(card: Card, seen: Seen) -> Verdict:
    """Does the host see all of the memory? Without it copies and P2P go through a window of 256 MiB."""
    bar, total = card.get("bar1_mib"), card.get("memory_mib")
    if not bar or not total:
        return not_applicable("the driver does not tell")
    if bar < total:
        return warning(f"{bar} of {total} MiB", "BIOS: above 4G decoding and resizable BAR on, CSM off")
    return ok(f"{bar} MiB")


CHECKS = (ecc, ecc_mode, inforom, remapped_rows, retired_pages, resizable_bar)
