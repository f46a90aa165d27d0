"""Checks of heat, power and what they do to the clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vault_cube.gpu.health.seen import Seen
from vault_cube.gpu.nvml import failures
from vault_cube.gpu.read import throttle
from vault_cube.verdicts import Verdict, fault, not_applicable, ok, warning

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card

COOL = "check airflow, dust, fans and room temperature; gpu.stress shows how the card behaves under load"


def temperature(card: Card, seen: Seen) -> Verdict:
    """Is the GPU too warm? The card's own limits count if they are lower than the pillar's."""
    now, limits, rules = card.get("temperature_c"), card.get("thresholds_c", {}), seen.rules.celsius
    if now is None:
        dropped = [f"{name} gave {value}" for name, value in card.get("implausible", {}).items() if "Temp" in name]
        evidence = "the driver reports no temperature" + (f" ({', '.join(dropped)})" if dropped else "")
        return warning(
            evidence, "nothing protects this card from heat: choose a driver that reports it (driver:branch)"
        )
    margin = card.get("margin_c")
    # cards without a limit report the distance to it. A cold card without a margin has a driver that does not know the
    # margin (gpud, components/accelerator/nvidia/temperature)
    own = limits.get("gpu_max_c") or (now + margin if margin and margin > 0 else None)
    warm = min(rules.warning, own) if own and own >= 60 else rules.warning
    hot = min(rules.fault, limits.get("slowdown_c") or 999)
    parts, compared = [f"{now} °C (warning {warm}, fault {hot})"], [(now, warm, hot)]
    if margin is not None and margin <= 0 and now >= rules.margin_from:
        parts.append(f"margin {margin} °C")
        compared.append((-margin, 0, -rules.margin_fault))
    memory, limit = card.get("memory_temperature_c"), limits.get("memory_max_c")
    if memory is not None:
        parts.append(f"memory {memory} °C" + (f" (limit {limit})" if limit else ""))
        # the card lowers its clocks at the limit; warn five degrees before
        compared += [(memory, limit - 5, limit)] if limit else []
    if any(value >= high for value, _, high in compared):
        return fault(", ".join(parts), f"stop the load; {COOL}")
    if any(value >= low for value, low, _ in compared):
        return warning(", ".join(parts), COOL)
    return ok(", ".join(parts))


def fan(card: Card, seen: Seen) -> Verdict:
    """Does the card turn its fans on when it is warm? Many cards stop them while they are cool.

    NVML returns the requested speed, so a blocked fan is not visible (nvml.h, nvmlDeviceGetFanSpeed_v2).
    """
    speeds, now, warm = card.get("fan_percent"), card.get("temperature_c"), seen.rules.celsius.fan
    if not speeds:
        return not_applicable("no fan, or the driver does not report it")
    evidence = ", ".join(f"{speed} %" for speed in speeds)
    if now is None:
        return not_applicable(f"{evidence}, and the driver reports no temperature")
    evidence = f"{evidence} at {now} °C"
    if min(speeds) == 0 and now >= warm:
        return fault(evidence, "a fan has stopped: stop the load, look for a cable in the fan, replace the card")
    if max(speeds) >= 100:
        return warning(evidence, f"the fans are at their maximum: {COOL}")
    return ok(evidence)


def power_cap(card: Card, seen: Seen) -> Verdict:
    """Is the power cap that of the pillar, or the card's default, and does the card stay below it?"""
    limit, own = card.get("power_limit_w"), card.get("power", {}).get("limit_default_w")
    chosen, now = seen.settings.driver.power.limit_w, card.get("power_w")
    if limit is None:
        return not_applicable("the driver does not report it")
    if now is not None and now > limit * (1 + seen.rules.power_over):
        # github.com/NVIDIA/open-gpu-kernel-modules/issues/1287: the reading sticks there, and the card stays slow
        return warning(f"draws {now:g} W at a cap of {limit:g} W", f"{failures.RESET}; if it stays: power off")
    wanted = chosen or own
    # a limit above the default was chosen on purpose, or a notebook shares its power
    if wanted is None or abs(limit - wanted) < 1 or (not chosen and limit > wanted):
        return ok(f"{limit:g} W")
    whose = "driver:power:limit_w" if chosen else "the card's own"
    return warning(
        f"{limit:g} W instead of {wanted:g} W ({whose})",
        "`systemctl restart vault-cube-gpu-power`" if chosen else f"`nvidia-smi -i {card['index']} -pl {wanted:g}`",
    )


def power_supply(card: Card, seen: Seen) -> Verdict:
    """Is the power supply sufficient? The driver reports an undersized one; the hardware brakes for a bad connector."""
    supply, masks = card.get("power", {}).get("supply"), seen.masks.get(card["index"], ())
    brake = throttle.shares(masks).get("hw_power_brake_slowdown", 0) if masks else 0
    todo = (
        "power off; plug the 12V-2x6 connector in fully, one cable per connector, no adapters; check the supply's load"
    )
    if supply in ("battery", "undersized"):
        return fault(f"the driver reports: {supply}", todo)
    if brake:
        return fault(f"the board brakes the card {brake:.0%} of the time", todo)
    if supply is None and not masks:
        return not_applicable("the driver does not report it")
    return ok(f"{card['power_w']:g} W now" if "power_w" in card else "no brake")


def throttling(card: Card, seen: Seen) -> Verdict:
    """Why are the clocks lower than they could be, and how much of the time?"""
    masks = seen.masks.get(card["index"])
    if not masks:
        return not_applicable("the driver does not report it")
    shares = throttle.shares(masks)
    allowed = {str(name): share for name, share in seen.rules.throttle_share.items()}
    longest = {str(name): seconds for name, seconds in seen.rules.held_down_s.items()}
    evidence = ", ".join(f"{name} {share:.0%}" for name, share in sorted(shares.items())) or "none"
    held = {name: seconds for name, seconds in card.get("held_down_s", {}).items() if seconds > longest.get(name, 1e9)}
    evidence += f" of {len(masks)} samples" + "".join(f"; {name} {s:.0f} s since loading" for name, s in held.items())
    bad = {
        name: throttle.WEIGHT.get(name, "unknown")
        for name, share in shares.items()
        if share > allowed.get(name, 0) and throttle.WEIGHT.get(name, "unknown") not in ("idle", "chosen")
    }
    todo = "; ".join(dict.fromkeys(throttle.TODO[name] for name in bad if name in throttle.TODO))
    if "fault" in bad.values():
        return fault(evidence, todo)
    if bad:
        return warning(evidence, todo or "an unknown reason, or a power cap: see throttle_share")
    if held:
        return warning(evidence, f"find out what ran then: {COOL}; power_brake: check the power supply and its cables")
    return ok(evidence)


def clocks(card: Card, seen: Seen) -> Verdict:
    """Are the clocks locked, or moved off their default curve?"""
    chosen, own = card.get("clocks_chosen_mhz", {}), card.get("clocks_default_mhz", {})
    offsets = {name: mhz for name, mhz in card.get("clock_offsets_mhz", {}).items() if mhz}
    moved = [f"{name} {mhz} MHz, default {own[name]}" for name, mhz in chosen.items() if own.get(name, mhz) != mhz]
    moved += [f"{name} offset {mhz:+d} MHz" for name, mhz in offsets.items()]
    bits = throttle.shares(seen.masks.get(card["index"], ())) if seen.masks.get(card["index"]) else {}
    if bits.get("applications_clocks_setting"):
        moved.append("the driver reports that a setting limits them")
    if moved:
        return warning(
            "; ".join(moved), f"`nvidia-smi -i {card['index']} -rac`, `-rgc`, `-rmc`; offsets: set them to 0"
        )
    if not chosen and "clock_offsets_mhz" not in card and not bits:
        return not_applicable("the driver does not report it")
    return ok("defaults of the card")


CHECKS = (temperature, fan, power_cap, power_supply, throttling, clocks)
