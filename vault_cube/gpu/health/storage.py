"""Checks of a GPU's memory: errors, what was done about them, and whether the host reaches all of it."""

from __future__ import annotations

from vault_cube.gpu.health.finding import FAULT, WARNING, Card, Finding, Seen, lacking, ok

RESET = "stop what uses it, then `nvidia-smi --gpu-reset -i N`, or reboot"


def ecc(card: Card, seen: Seen) -> Finding:
    """Were there memory errors? Volatile: since the driver was loaded; aggregate: in the card's life."""
    errors = card.get("ecc_errors")
    if errors is None:
        return lacking("no ECC on this card")
    now, ever = errors.get("volatile", {}), errors.get("aggregate", {})
    said = (
        f"since loading {now.get('corrected', 0)} corrected, {now.get('uncorrected', 0)} uncorrected; "
        f"ever {ever.get('corrected', 0)}, {ever.get('uncorrected', 0)}"
    )
    if now.get("uncorrected", 0):
        return Finding(FAULT, said, f"results since then may be wrong: {RESET}; if it comes back, replace the card")
    if ever.get("uncorrected", 0):
        return Finding(WARNING, said, "burn it in (gpu.stress); if the number grows, replace the card")
    if now.get("corrected", 0) > seen.rules["ecc_corrected"]:
        return Finding(
            WARNING, f"{said}; > {seen.rules['ecc_corrected']} (ecc_corrected)", "watch it; burn it in: gpu.stress"
        )
    return ok(said)


def ecc_mode(card: Card, seen: Seen) -> Finding:
    """Is ECC on, and is the mode the one that was asked for?"""
    mode, pending = card.get("ecc"), card.get("ecc_pending")
    if mode is None:
        return lacking("no ECC on this card")
    if pending and mode != pending:
        return Finding(WARNING, f"{mode}, {pending} after the next reset", RESET)
    if mode == "disabled":
        return Finding(WARNING, "disabled: memory errors stay unseen", "`nvidia-smi -e 1`, then reset or reboot")
    return ok(mode)


def remapped_rows(card: Card, seen: Seen) -> Finding:
    """Were rows of memory replaced (Ampere and newer)? Source: NVIDIA, "GPU Memory Error Management"."""
    rows = card.get("remapped_rows")
    # a consumer card answers with zeros, too: that is no support
    if not rows or ("ecc_errors" not in card and not any(rows.values())):
        return lacking("this card remaps no rows")
    said = ", ".join(f"{count} {name}" for name, count in rows.items())
    if rows["failed"]:
        return Finding(FAULT, said, "the card has no spare rows there: replace it")
    if rows["pending"]:
        return Finding(WARNING, said, f"the row is replaced by a reset: {RESET}")
    if rows["uncorrected"]:
        return Finding(WARNING, said, "burn it in (gpu.stress); if the number grows, replace the card")
    return ok(said)


def retired_pages(card: Card, seen: Seen) -> Finding:
    """Were pages of memory taken out of use (before Ampere)? Source: NVIDIA, "Dynamic Page Retirement", RMA policy."""
    pages = card.get("retired_pages")
    if not pages:
        return lacking("this card retires no pages")
    said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in pages.items())
    if pages.get("single_bit", 0) + pages.get("double_bit", 0) >= 60:
        return Finding(FAULT, said, "replace the card: 60 retired pages are its limit")
    if pages.get("pending"):
        return Finding(WARNING, said, f"the page is taken out by a reset: {RESET}")
    return ok(said)


def resizable_bar(card: Card, seen: Seen) -> Finding:
    """Does the host see all of the memory? Without it copies and P2P go through a window of 256 MiB."""
    bar, total = card.get("bar1_mib"), card.get("memory_mib")
    if not bar or not total:
        return lacking("the driver does not tell")
    if bar < total:
        return Finding(WARNING, f"{bar} of {total} MiB", "BIOS: above 4G decoding and resizable BAR on, CSM off")
    return ok(f"{bar} MiB")


CHECKS = (ecc, ecc_mode, remapped_rows, retired_pages, resizable_bar)
