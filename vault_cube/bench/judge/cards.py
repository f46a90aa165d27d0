"""Verdicts that name a card: its rates beside the vendor's figures, and beside those of its siblings."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from vault_cube.bench.judge import result
from vault_cube.bench.judge.result import Machine, Metric
from vault_cube.settings.benchmark import Ceiling
from vault_cube.settings.driver import DriverGates
from vault_cube.verdicts import FAULT, NOT_APPLICABLE, OK, UNCERTAIN, Verdict

LANE_GB_S = {generation: 2**generation * 128 / 130 / 8 for generation in (3, 4, 5)}
"""Rate of a PCIe lane in one direction: 8, 16 and 32 GT/s, encoded 128b/130b (PCI Express Base Specification 5.0)."""
SHARES = ("share", "ratio")
"""Units of metrics that are shown in percent."""
SLOW = "look at clock, power, heat and link beside the number; `gpu.health load=True`; try the card in another slot"
NO_FIGURE = "add the card's figures and their source to benchmark:ceilings in the pillar"


class Threshold(NamedTuple):
    """A value of the pillar that a result's interval must exceed."""

    value: float | None
    key: str
    """Its pillar key."""

    def __str__(self) -> str:
        return f"above {self.value:g}: {self.key}"


def ceiling(ceilings: Sequence[Ceiling], name: str | None) -> Ceiling | None:
    """Return the vendor's figures for a card; None if the pillar has none. name: complete, as NVML returns it."""
    return next((figures for figures in ceilings if name in figures.devices), None)


def names(machine: Machine) -> dict[str, str]:
    """Return the name of each GPU by its device, `cuda:0` and so on."""
    return {f"cuda:{gpu['index']}": str(gpu.get("name", "a GPU without a name")) for gpu in machine.gpus}


def link_gb_s(figures: Ceiling, slots: DriverGates) -> float:
    """Return the rate of a card's PCIe link in one direction, in GB/s.

    slots: the generation and width that the pillar expects (`driver:gates`), if the slots have less than the card; 0
    is no expectation.
    """
    generation = min(figures.pcie.generation, slots.pcie_generation or figures.pcie.generation)
    width = min(figures.pcie.width, slots.pcie_width or figures.pcie.width)
    return LANE_GB_S[max(3, generation)] * width


def index(device: str | None) -> int | None:
    """Return the number of a GPU by its device; None for a CPU, and for all devices together."""
    kind, _, number = (device or "").partition(":")
    return int(number) if kind == "cuda" else None


def against_figures(
    check: str,
    metrics: Sequence[Metric],
    figures: Mapping[str, float | None],
    threshold: Threshold,
    cards: Mapping[str, str],
) -> Iterator[Verdict]:
    """Judge one quantity of all cards by the vendor's figures: a verdict per bad card, or one that all are ok.

    metrics: one per card; none gives no verdict. figures: by device; None: none is published, so there is no pass.
    threshold: a share of the figure. cards: the names of all GPUs by device; one that was not measured is a fault.
    """
    if not metrics or not cards:
        return
    measured = {metric.device: metric for metric in metrics}
    verdicts: list[tuple[float, Verdict]] = []
    for device, card in cards.items():
        metric, figure, gpu = measured.get(device), figures.get(device), index(device)
        if metric is None:
            missing = Verdict(FAULT, f"{card}: not measured", "run the benchmark again", check=check, gpu=gpu)
            verdicts.append((0.0, missing))
        elif figure is None:
            evidence = f"not judged: no published figure for {card}; measured {metric.median:.4g} {metric.unit}"
            verdicts.append((metric.median, Verdict(UNCERTAIN, evidence, NO_FIGURE, check=check, gpu=gpu)))
        else:
            share = result.scaled(metric, check, "share", 1 / figure, 1)
            evidence = f"{metric.median:.4g} of {figure:.4g} {metric.unit}, {share.median:.0%}"
            verdicts.append((share.median, judged(check, share, threshold, evidence, gpu=gpu)))
    yield from collected(verdicts)


def among_siblings(metrics: Sequence[Metric], threshold: Threshold, cards: Mapping[str, str]) -> Iterator[Verdict]:
    """Judge one quantity of each card by the median of the other cards of its model.

    metrics: one per card. A card without siblings gives no verdict. cards: the names of all GPUs by device.
    """
    verdicts: list[tuple[float, Verdict]] = []
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
        check = f"siblings: {metric.quantity}" + (f" {metric.subject}" if metric.subject else "")
        share = result.metric({**result.basis(metric), "better": "higher", "unit": "share", "samples": speeds}, 1)
        evidence = f"{metric.median:.4g} {metric.unit}, {share.median:.0%} of the other cards' median"
        verdicts.append((share.median, judged(check, share, threshold, evidence, gpu=index(metric.device))))
    yield from collected(verdicts)


def collected(verdicts: Sequence[tuple[float, Verdict]]) -> Iterator[Verdict]:
    """Yield the verdicts of all cards that are not ok; if all are ok, a single one, that of the lowest number.

    verdicts: pairs of a number and the verdict on it.
    """
    bad = [verdict for _, verdict in verdicts if verdict.bad]
    if bad or len(verdicts) < 2:
        yield from bad or [verdict for _, verdict in verdicts]
        return
    _, least = min(verdicts, key=lambda pair: pair[0])
    where = "" if least.gpu is None else f", the least of {len(verdicts)} GPUs on GPU {least.gpu}"
    yield replace(least, gpu=None, evidence=f"{least.evidence}{where}")


def judged(check: str, metric: Metric, threshold: Threshold, evidence: str, *, gpu: int | None = None) -> Verdict:
    """Judge a metric: ok if its whole interval is above the threshold, a fault if none of it is, else uncertain.

    evidence: the number, for readers; the interval is added to it. A threshold of None is not applicable.
    """
    if threshold.value is None:
        return Verdict(NOT_APPLICABLE, f"{evidence}; the pillar has no threshold", check=check, gpu=gpu)
    text, todo = str(threshold), ""
    noisy = f"; noisy: the samples vary by {metric.variation:.0%}" if metric.noisy else ""
    if metric.low is None or metric.high is None:
        evidence += f"; {len(metric.samples)} samples are too few for an interval"
        return Verdict(UNCERTAIN, evidence, "measure again, with more repeats or rounds", text, check, gpu)
    low, high = (f"{end:.1%}" if metric.unit in SHARES else f"{end:.4g}" for end in (metric.low, metric.high))
    evidence += f" (95 % interval {low} to {high}){noisy}"
    if metric.low > threshold.value:
        return Verdict(OK, evidence, todo, text, check, gpu)
    if metric.high <= threshold.value:
        return Verdict(FAULT, evidence, SLOW, text, check, gpu)
    todo = "the interval contains the threshold: measure again on a quieter machine, or longer"
    return Verdict(UNCERTAIN, evidence, todo, text, check, gpu)
