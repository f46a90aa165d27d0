"""The verdicts on a benchmark's suites: each threshold of the pillar, data that was compared, suites that failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from vault_cube.bench.judge import cards, derived, result
from vault_cube.bench.judge.cards import CEILINGS, against_figures, among_siblings, bare, judged
from vault_cube.bench.judge.result import Machine, Metric, Suite, Verdict
from vault_cube.settings import Settings
from vault_cube.settings.benchmark import Ceiling, Thresholds

PER_CARD = {
    "matmul": ("matmul",),
    "copies": ("memory copy", "host to device", "device to host"),
    "ddp": ("training alone",),
    "tensorflow": ("training alone",),
    "vllm": ("output",),
}
"""Suite -> the quantities in which cards of one model are compared with each other."""


class Box(NamedTuple):
    """What all verdicts are based on."""

    suites: Mapping[str, Suite]
    """The suites that were measured."""
    extra: Sequence[Metric]
    """The derived metrics."""
    names: Mapping[str, str]
    """Name of each GPU by its device; empty on a CPU."""
    settings: Settings
    thresholds: Thresholds

    def figures(self, value: Callable[[Ceiling], float | None]) -> dict[str, float | None]:
        """Return a figure of each card by device; None if none is published."""
        known = {device: cards.ceiling(self.settings.benchmark.ceilings, name) for device, name in self.names.items()}
        return {device: value(ceiling) if ceiling else None for device, ceiling in known.items()}

    def links(self) -> dict[str, float | None]:
        """Return the rate of each card's PCIe link in one direction, in GB/s."""
        return self.figures(lambda ceiling: cards.link_gb_s(ceiling, self.settings.driver.gates))


def verdicts(
    suites: Mapping[str, Suite], extra: Sequence[Metric], machine: Machine, settings: Settings
) -> list[Verdict]:
    """Return one verdict per threshold, and a fault for each suite that failed.

    extra: the derived metrics. A target with GPUs on which a CPU was measured gets a fault.
    """
    wanted, accelerator = settings.target.accelerator, machine.accelerator
    faults = []
    if wanted != accelerator:
        faults.append(bare("accelerator", "fault", f"the target requires {wanted}, but {accelerator} was measured"))
    for name, suite in suites.items():
        if suite.status in ("failed", "interrupted"):
            faults.append(bare(name, "fault", f"{suite.kind}: {suite.reason}"))
    measured = {name: suite for name, suite in suites.items() if suite.status == "measured"}
    thresholds = settings.benchmark.thresholds[accelerator]
    box = Box(measured, extra, cards.names(machine), settings, thresholds)
    questions = (_data, _matmul, _copies, _all_reduce, _training, _efficiency, _utilisation, _vllm, _siblings)
    return faults + [verdict for question in questions for verdict in question(box)]


def _data(box: Box) -> list[Verdict]:
    checks = [check for suite in box.suites.values() for check in suite.checks]
    wrong = [
        f"{check.quantity}{f' {check.device}' if check.device else ''}{f' to {check.peer}' if check.peer else ''}: "
        f"{check.wrong} of {check.compared} values are wrong"
        for check in checks
        if check.wrong
    ]
    if not checks:
        return []
    if wrong:
        return [bare("data", "fail", "; ".join(wrong), sum(check.wrong for check in checks))]
    return [bare("data", "pass", f"{sum(check.compared for check in checks)} values arrived unchanged", 0)]


def _matmul(box: Box) -> list[Verdict]:
    suite = box.suites.get("matmul")
    figures = box.figures(lambda ceiling: ceiling.bfloat16_tflops)
    metrics = suite.of("matmul", "bfloat16") if suite else []
    return against_figures("matmul", metrics, figures, box.thresholds.matmul, box.names)


def _copies(box: Box) -> list[Verdict]:
    suite = box.suites.get("copies")
    if not suite:
        return []
    figures = box.figures(lambda ceiling: ceiling.memory_gb_s)
    judgements = against_figures("memory", suite.of("memory copy"), figures, box.thresholds.memory, box.names)
    for subject, threshold in (("alone", box.thresholds.host_copy), ("together", box.thresholds.host_copy_together)):
        for quantity in ("host to device", "device to host"):
            judgements += against_figures(
                f"{quantity}, {subject}", suite.of(quantity, subject), box.links(), threshold, box.names
            )
    return judgements


def _all_reduce(box: Box) -> list[Verdict]:
    suite = box.suites.get("all_reduce")
    if not suite or not box.names:
        return []
    largest = suite.of("all reduce")[-1:]
    if not largest:
        return [bare("all reduce", "not applicable", "an all-reduce needs at least two devices")]
    nvlinks = list(box.figures(lambda ceiling: ceiling.nvlink_gb_s).values())
    links = list(box.links().values())
    joined = all(nvlinks)
    rates = [rate for rate in (nvlinks if joined else links) if rate]
    if len(rates) < len(box.names):
        missing = ", ".join(sorted({name for name, rate in zip(box.names.values(), links, strict=True) if not rate}))
        why = f"no published figure for {missing} ({CEILINGS})"
        return [bare("all reduce", "not judged", why, largest[0].median)]
    share = result.scaled(largest[0], "all reduce", "share", 1 / min(rates), 1)
    threshold = box.thresholds.all_reduce_nvlink if joined else box.thresholds.all_reduce_pcie
    why = f"{largest[0].median:.4g} of {min(rates):.4g} GB/s of {'NVLink' if joined else 'PCIe'}, {share.median:.0%}"
    return [judged("all reduce", share, threshold, why=why)]


def _training(box: Box) -> list[Verdict]:
    judgements = []
    for name, models in (("ddp", ("transformer",)), ("tensorflow", ("dense",))):
        suite = box.suites.get(name)
        if not suite:
            continue
        for model in models:
            workload = suite.workload.get("models", {}).get(model)
            if workload is None:
                continue
            relative = derived.PEAKS.get(workload.get("precision"), 0.0)
            flops = workload["flop_per_sample"] / 1e12
            metrics = [
                result.scaled(metric, metric.quantity, "TFLOP/s", flops, 1)
                for metric in suite.of("training alone", model)
            ]
            figures = {
                device: peak * relative if peak and relative else None
                for device, peak in box.figures(lambda ceiling: ceiling.bfloat16_tflops).items()
            }
            judgements += against_figures(
                f"training, {name} {model}", metrics, figures, box.thresholds.training, box.names
            )
    return judgements


def _efficiency(box: Box) -> list[Verdict]:
    suite = box.suites.get("ddp")
    judgements = []
    for model in suite.workload.get("models", {}) if suite else {}:
        name, efficiency = f"scaling, {model}", suite.one("efficiency", model) if suite else None
        if efficiency is None:
            judgements.append(bare(name, "not applicable", "scaling needs at least two devices"))
        else:
            judgements.append(judged(name, efficiency, box.thresholds.ddp_efficiency))
    return judgements


def _utilisation(box: Box) -> list[Verdict]:
    suite = box.suites.get("ddp")
    limit = box.thresholds.utilisation
    if not suite or not box.names or limit is None:
        return []
    readings = suite.sensors.get("steady", {})
    shares = {
        device: readings[device]["utilisation"]["mean"]
        for device in box.names
        if "utilisation" in readings.get(device, {})
    }
    silent = sorted(set(box.names) - set(shares))
    if silent:
        why = f"{', '.join(silent)}: NVML returned no utilisation while DDP trained"
        return [bare("utilisation", "not judged", why)]
    device, least = min(shares.items(), key=lambda item: item[1])
    why = f"{device}: busy {least:.0%} of the time while DDP trains, the least of {len(shares)} GPU(s)"
    verdict = bare("utilisation", "pass" if least > limit else "fail", why, least, device=device)
    return [verdict.model_copy(update={"threshold": limit})]


def _vllm(box: Box) -> list[Verdict]:
    suite = box.suites.get("vllm")
    if not suite:
        return []
    limit = box.thresholds.vllm_tokens_per_s
    rates = suite.of("output", "one request")
    judgements = [
        cards.worst(
            [
                judged(
                    "tokens per second",
                    rate,
                    limit,
                    device=rate.device,
                    why=f"{rate.label}: {rate.median:.4g} tokens/s",
                )
                for rate in rates
            ]
        )
    ]
    if not box.names or box.thresholds.vllm_roofline is None:
        return judgements
    # a share of a bandwidth measured on the same card cannot show that the card is slow
    shares = [
        metric.model_copy(update={"unit": "of the bandwidth"})
        for metric in box.extra
        if metric.quantity == "roofline" and metric.unit == derived.VENDORS_BANDWIDTH
    ]
    known = box.figures(lambda ceiling: ceiling.memory_gb_s)
    missing = ", ".join(sorted({box.names[device] for device, figure in known.items() if figure is None}))
    if missing:
        return [*judgements, bare("roofline", "not judged", f"no published figure for {missing} ({CEILINGS})")]
    figures = dict.fromkeys(box.names, 1.0)
    return judgements + against_figures("roofline", shares, figures, box.thresholds.vllm_roofline, box.names)


def _siblings(box: Box) -> list[Verdict]:
    judgements = []
    for name, quantities in PER_CARD.items():
        metrics = [
            metric
            for metric in (box.suites[name].metrics if name in box.suites else [])
            if metric.quantity in quantities and metric.device and not metric.peer
        ]
        for case in dict.fromkeys((metric.quantity, metric.subject) for metric in metrics):
            chosen = [metric for metric in metrics if (metric.quantity, metric.subject) == case]
            judgements += among_siblings(chosen, box.thresholds.siblings, box.names)
    return judgements
