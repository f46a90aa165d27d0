"""Verdicts that name a card: its rates beside the vendor's figures, and beside those of its siblings."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vault_cube.bench.judge import result
from vault_cube.bench.judge.result import WORST, Machine, Metric, Outcome, Verdict
from vault_cube.settings.benchmark import Ceiling
from vault_cube.settings.driver import DriverGates

LANE_GB_S = {generation: 2**generation * 128 / 130 / 8 for generation in (3, 4, 5)}
"""Rate of a PCIe lane in one direction: 8, 16 and 32 GT/s, encoded 128b/130b (PCI Express Base Specification 5.0)."""

CEILINGS = "pillar benchmark:ceilings"


def ceiling(ceilings: Sequence[Ceiling], name: str | None) -> Ceiling | None:
    """Return the vendor's figures for a card; None if the pillar has none. name: complete, as NVML returns it."""
    return next((figures for figures in ceilings if name in figures.devices), None)


def names(machine: Machine) -> dict[str, str]:
    """Return the name of each GPU by its device, `cuda:0` and so on."""
    return {f"cuda:{gpu['index']}": str(gpu.get("name", "a GPU without a name")) for gpu in machine.gpus}


def link_gb_s(figures: Ceiling | None, slots: DriverGates) -> float | None:
    """Return the rate of a card's PCIe link in one direction, in GB/s; None without figures.

    slots: the generation and width that the pillar expects (`driver:gates`), if the slots have less than the card; 0
    is no expectation.
    """
    if figures is None:
        return None
    generation = min(figures.pcie.generation, slots.pcie_generation or figures.pcie.generation)
    width = min(figures.pcie.width, slots.pcie_width or figures.pcie.width)
    return LANE_GB_S[max(3, generation)] * width


def against_figures(
    name: str,
    metrics: Sequence[Metric],
    figures: Mapping[str, float | None],
    threshold: float | None,
    cards: Mapping[str, str],
) -> list[Verdict]:
    """Judge one quantity of all cards by the vendor's figures: one verdict, that of the worst card.

    metrics: one per card; none gives no verdict. figures: by device; None: none is published. threshold: share of the
    figure, 0 to 1. cards: the names of all GPUs by device; a fault names those that were not measured.
    """
    if not metrics or not cards:
        return []
    if threshold is None:
        return [bare(name, "not applicable", "the pillar has no threshold")]
    measured = {metric.device: metric for metric in metrics}
    verdicts = []
    for device, card in cards.items():
        metric, figure = measured.get(device), figures.get(device)
        if metric is None:
            verdicts.append(bare(name, "fault", f"{device}: not measured", device=device))
        elif figure is None:
            why = f"{device}: no published figure for {card} ({CEILINGS})"
            verdicts.append(bare(name, "not judged", why, metric.median, device=device))
        else:
            share = result.scaled(metric, name, "share", 1 / figure, 1)
            why = f"{device}: {metric.median:.4g} of {figure:.4g} {metric.unit}, {share.median:.0%}"
            verdicts.append(judged(name, share, threshold, device=device, why=why))
    return [worst(verdicts)]


def among_siblings(metrics: Sequence[Metric], threshold: float | None, cards: Mapping[str, str]) -> list[Verdict]:
    """Judge one quantity of each card by the median of the other cards of its model: one verdict, of the worst card.

    metrics: one per card. A card without siblings gives no verdict. cards: the names of all GPUs by device.
    """
    verdicts = []
    for metric in metrics:
        card = cards.get(metric.device or "")
        others = [
            other.median for other in metrics if other.device != metric.device and cards.get(other.device or "") == card
        ]
        if card is None or not others:
            continue
        usual = statistics.median(others)
        # a latency is better if it is lower: compare speeds
        speeds = [sample / usual if metric.better == "higher" else usual / sample for sample in metric.samples]
        name = f"siblings: {metric.quantity}" + (f" {metric.subject}" if metric.subject else "")
        if threshold is None:
            return [bare(name, "not applicable", "the pillar has no threshold")]
        share = result.metric(metric.model_dump() | {"better": "higher", "samples": speeds}, 1)
        why = f"{metric.device}: {metric.median:.4g} {metric.unit}, {share.median:.0%} of the other cards' median"
        verdicts.append(judged(name, share, threshold, device=metric.device, why=why))
    return [worst(verdicts)] if verdicts else []


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the worst verdict on one quantity; its reason contains those of all cards that do not pass."""
    chosen = max(verdicts, key=lambda verdict: (WORST.index(verdict.outcome), -(verdict.value or 0)))
    others = [verdict.why for verdict in verdicts if verdict.outcome != "pass" and verdict is not chosen]
    return chosen.model_copy(update={"why": "; ".join([chosen.why, *others])})


def judged(name: str, metric: Metric, threshold: float | None, *, device: str | None = None, why: str = "") -> Verdict:
    """Judge a metric: pass if its whole interval is above the threshold, fail if none of it is, else uncertain.

    threshold: None gives `not applicable`. why: the evidence; the reason for the outcome is added to it.
    """
    outcome: Outcome
    if threshold is None:
        return bare(name, "not applicable", "the pillar has no threshold", metric.median, device=device)
    if metric.low is None or metric.high is None:
        outcome, reason = "uncertain", f"{len(metric.samples)} samples are too few for an interval"
    elif metric.low > threshold:
        outcome, reason = "pass", "the whole interval is above the threshold"
    elif metric.high <= threshold:
        outcome, reason = "fail", "the whole interval is at or below the threshold"
    else:
        outcome = "uncertain"
        reason = "the interval contains the threshold; measure again on a quieter machine, or longer"
    if metric.noisy:
        reason += f"; noisy: the samples vary by {metric.variation:.0%}"
    fields: dict[str, Any] = {"value": metric.median, "low": metric.low, "high": metric.high, "threshold": threshold}
    why = f"{why}: {reason}" if why else reason
    return Verdict(name=name, outcome=outcome, device=device, why=why, **fields)


def bare(name: str, outcome: Outcome, why: str, value: float | None = None, *, device: str | None = None) -> Verdict:
    """Return a verdict that compares no interval with a threshold."""
    return Verdict(name=name, outcome=outcome, device=device, value=value, low=None, high=None, threshold=None, why=why)
