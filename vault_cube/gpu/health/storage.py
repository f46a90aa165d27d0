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
    """Were there memory errors? Volatile: since the driver was loaded; aggregate: during the card's life."""
    errors = card.get("ecc_errors")
    if errors is None:
        return not_applicable("no ECC on this card")
    now, ever = errors.get("volatile", {}), errors.get("aggregate", {})
    evidence = f"since loading {_counts(now)}; ever {_counts(ever)}"
    if now.get("uncorrected", 0):
        return fault(evidence, f"results since then may be wrong: {RESET}; if it happens again, replace the card")
    if card.get("sram_exceeded"):
        return fault(f"{evidence}; SRAM: more uncorrected errors than NVIDIA allows", "replace the card")
    if now.get("corrected", 0) > seen.rules.ecc_corrected:
        return warning(f"{evidence}; > {seen.rules.ecc_corrected} (ecc_corrected)", "watch it; burn it in: gpu.stress")
    # older errors have been handled; `remapped rows` judges what remains of them
    return ok(evidence)


def _counts(errors: Mapping[str, int]) -> str:
    return ", ".join(f"{errors[name]} {name}" for name in ("corrected", "uncorrected") if name in errors) or "unknown"


def ecc_mode(card: Card, seen: Seen) -> Verdict:
    """Is ECC on, or off as the card ships, and is no change of the mode pending?"""
    mode, pending = card.get("ecc"), card.get("ecc_pending")
    if mode is None:
        return not_applicable("no ECC on this card")
    if pending and mode != pending:
        return warning(f"{mode}, {pending} after the next reset", RESET)
    shipped = card.get("ecc_default") or ("disabled" if "GeForce" in card.get("name", "") else "enabled")
    if mode == "disabled" and shipped == "disabled":
        return ok("disabled, as this card ships")
    if mode == "disabled":
        return warning("disabled: memory errors are not detected", f"`nvidia-smi -e 1`, then {RESET}")
    return ok(mode)


def inforom(card: Card, seen: Seen) -> Verdict:
    """Can the card's own memory for serial number, ECC counters and limits be read?"""
    unreadable = card.get("inforom_corrupted")
    if unreadable:
        return warning(
            f"corrupted ({', '.join(dict.fromkeys(unreadable))})",
            "counters of the card's life are lost, computing is not affected: ask the vendor to replace the card",
        )
    return ok(card["inforom"]) if "inforom" in card else not_applicable("this card has no inforom")


def remapped_rows(card: Card, seen: Seen) -> Verdict:
    """Were rows of memory replaced (Ampere and newer)? Source: NVIDIA, "GPU Memory Error Management".

    A replaced row is no fault, but a full bank is (gpud, components/accelerator/nvidia/remapped-rows).
    """
    rows, spare, most = card.get("remapped_rows"), card.get("spare_rows"), seen.rules.remapped_rows
    # consumer cards return zeros although they lack the feature
    if not rows or ("ecc_errors" not in card and not any(rows.values())):
        return not_applicable("this card remaps no rows")
    evidence = ", ".join(f"{count} {name}" for name, count in rows.items())
    if rows["failed"]:
        return fault(evidence, "the card has no spare rows there: replace it")
    if rows["uncorrected"] >= most:
        return fault(f"{evidence}; {most} is the limit (remapped_rows)", "run NVIDIA's field diagnostic; replace it")
    if rows["pending"]:
        return warning(evidence, f"the row is replaced by a reset: {RESET}")
    if spare and spare["none"]:
        return warning(f"{evidence}; {spare['none']} bank(s) without a spare row", "burn it in (gpu.stress)")
    return ok(evidence)


def retired_pages(card: Card, seen: Seen) -> Verdict:
    """Were pages of memory taken out of use (before Ampere)? Source: NVIDIA, "Dynamic Page Retirement", RMA policy."""
    pages, rules = card.get("retired_pages"), seen.rules.retired_pages
    if not pages:
        return not_applicable("this card retires no pages")
    evidence = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in pages.items())
    if pages.get("single_bit", 0) + pages.get("double_bit", 0) >= rules.fault:
        return fault(evidence, f"replace the card: {rules.fault} retired pages are its limit")
    if pages.get("pending"):
        return warning(evidence, f"the page is taken out by a reset: {RESET}")
    if pages.get("double_bit", 0) > rules.double_bit:
        return warning(evidence, "if double bit still grows, replace the card; burn it in: gpu.stress")
    return ok(evidence)


def resizable_bar(card: Card, seen: Seen) -> Verdict:
    """Can the host address all of the memory? Otherwise copies and P2P use a window of 256 MiB."""
    bar, total = card.get("bar1_mib"), card.get("memory_mib")
    if not bar or not total:
        return not_applicable("the driver does not report it")
    if bar < total:
        return warning(f"{bar} of {total} MiB", "BIOS: above 4G decoding and resizable BAR on, CSM off")
    return ok(f"{bar} MiB")


CHECKS = (ecc, ecc_mode, inforom, remapped_rows, retired_pages, resizable_bar)
