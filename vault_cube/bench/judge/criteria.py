"""The verdicts on a benchmark's suites: each threshold of the pillar, data that was compared, suites that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from vault_cube.bench.judge import cards, derived, result
from vault_cube.bench.judge.cards import Threshold, against_figures, among_siblings, judged
from vault_cube.bench.judge.result import Machine, Metric, Suite
from vault_cube.settings import Settings
from vault_cube.settings.benchmark import Ceiling
from vault_cube.verdicts import UNCERTAIN, Verdict, fault, not_applicable, ok, run

PER_CARD = {
    "matmul": ("matmul",),
    "copies": ("memory copy", "host to device", "device to host"),
    "ddp": ("training alone",),
    "tensorflow": ("training alone",),
    "vllm": ("output",),
}
"""Suite -> the quantities in which cards of one model are compared with each other."""


TOGETHER = "ddp_boxes"
"""Suite ddp over several boxes. Its devices are those of all boxes, so that no card of this box is judged by it."""


class Box(NamedTuple):
    """What all verdicts are based on."""

    suites: Mapping[str, Suite]
    extra: Sequence[Metric]
    """The derived metrics."""
    machine: Machine
    settings: Settings

    @property
    def names(self) -> dict[str, str]:
        """Return the name of each GPU by its device; empty on a CPU."""
        return cards.names(self.machine)

    def measured(self, name: str) -> Suite | None:
        """Return a suite, if it was measured."""
        suite = self.suites.get(name)
        return suite if suite and suite.status == "measured" else None

    def threshold(self, name: str) -> Threshold:
        """Return a threshold of the pillar."""
        accelerator = self.machine.accelerator
        value = getattr(self.settings.benchmark.thresholds[accelerator], name)
        return Threshold(value, f"benchmark:thresholds:{accelerator}:{name}")

    def figures(self, value: Callable[[Ceiling], float | None]) -> dict[str, float | None]:
        """Return a figure of each card by device; None if none is published."""
        ceilings = self.settings.benchmark.ceilings
        known = {device: cards.ceiling(ceilings, name) for device, name in self.names.items()}
        return {device: value(ceiling) if ceiling else None for device, ceiling in known.items()}

    def links(self) -> dict[str, float | None]:
        """Return the rate of each card's PCIe link in one direction, in GB/s."""
        return self.figures(lambda ceiling: cards.link_gb_s(ceiling, self.settings.driver.gates))


def verdicts(
    suites: Mapping[str, Suite], extra: Sequence[Metric], machine: Machine, settings: Settings
) -> list[Verdict]:
    """Return the verdicts on a benchmark. extra: the derived metrics."""
    checks = (
        accelerator, completed, data, matmul, memory, host_copies, all_reduce, training, scaling, over_boxes,
        utilisation, tokens_per_second, roofline, siblings,
    )  # fmt: skip
    return list(run(checks, Box(suites, extra, machine, settings)))


def accelerator(box: Box) -> Iterator[Verdict]:
    """Compare what was measured with what the target has."""
    wanted, measured = box.settings.target.accelerator, box.machine.accelerator
    if wanted != measured:
        yield fault(f"the target requires {wanted}, but {measured} was measured", "`gpu.detect` shows why")


def completed(box: Box) -> Iterator[Verdict]:
    """Name the suites that failed."""
    for name, suite in box.suites.items():
        if suite.status in ("failed", "interrupted"):
            yield fault(f"{suite.kind}: {suite.reason}", check=name)


def data(box: Box) -> Iterator[Verdict]:
    """Name the copies and reductions whose data was wrong."""
    checks = [check for suite in box.suites.values() for check in suite.checks]
    for check in checks:
        if check.wrong:
            devices = f" {check.device or ''}{f' to {check.peer}' if check.peer else ''}".rstrip()
            evidence = f"{check.quantity}{devices}: {check.wrong} of {check.compared} values are wrong"
            todo = "`gpu.health`: peer path, IOMMU and ACS; until it is found, no result on this box can be trusted"
            yield fault(evidence, todo)
    if checks and not any(check.wrong for check in checks):
        yield ok(f"{sum(check.compared for check in checks)} values arrived unchanged")


def matmul(box: Box) -> Iterator[Verdict]:
    """Compare each card's bfloat16 product with the vendor's peak."""
    suite = box.measured("matmul")
    if suite:
        figures = box.figures(lambda ceiling: ceiling.bfloat16_tflops)
        metrics = suite.of("matmul", "bfloat16")
        yield from against_figures("matmul", metrics, figures, box.threshold("matmul"), box.names)


def memory(box: Box) -> Iterator[Verdict]:
    """Compare the copy within each card's memory with the vendor's bandwidth."""
    suite = box.measured("copies")
    if suite:
        figures = box.figures(lambda ceiling: ceiling.memory_gb_s)
        yield from against_figures("memory", suite.of("memory copy"), figures, box.threshold("memory"), box.names)


def host_copies(box: Box) -> Iterator[Verdict]:
    """Compare the copies between host and each card with the rate of its PCIe link."""
    suite = box.measured("copies")
    for subject, name in (("alone", "host_copy"), ("together", "host_copy_together")):
        for quantity in ("host to device", "device to host"):
            metrics = suite.of(quantity, subject) if suite else []
            check = f"{quantity}, {subject}"
            yield from against_figures(check, metrics, box.links(), box.threshold(name), box.names)


def all_reduce(box: Box) -> Iterator[Verdict]:
    """Compare the bus bandwidth of the largest all-reduce with the slowest card's NVLink or PCIe link."""
    suite = box.measured("all_reduce")
    if not suite or not box.names:
        return
    largest = suite.of("all reduce")[-1:]
    if not largest:
        yield not_applicable("an all-reduce needs at least two devices")
        return
    nvlinks, links = box.figures(lambda ceiling: ceiling.nvlink_gb_s), box.links()
    joined = all(nvlinks.values())
    rates = nvlinks if joined else links
    slowest = min((rate for rate in rates.values() if rate), default=0.0)
    unknown = sorted({box.names[device] for device, rate in rates.items() if not rate})
    if unknown:
        evidence = f"not judged: no published figure for {', '.join(unknown)}; measured {largest[0].median:.4g} GB/s"
        yield Verdict(UNCERTAIN, evidence, cards.NO_FIGURE)
        return
    share = result.scaled(largest[0], "all reduce", "share", 1 / slowest, 1)
    link = "NVLink" if joined else "PCIe"
    evidence = f"{largest[0].subject}: {largest[0].median:.4g} of {slowest:.4g} GB/s of {link}, {share.median:.0%}"
    yield judged("all reduce", share, box.threshold("all_reduce_nvlink" if joined else "all_reduce_pcie"), evidence)


def training(box: Box) -> Iterator[Verdict]:
    """Compare the model FLOP/s of each card alone with the vendor's peak."""
    for name, model in (("ddp", "transformer"), ("tensorflow", "dense")):
        suite = box.measured(name)
        workload = suite.workload.get("models", {}).get(model) if suite else None
        if not suite or workload is None:
            continue
        relative = derived.PEAKS.get(workload.get("precision"), 0.0)
        flops = workload["flop_per_sample"] / 1e12
        metrics = [
            result.scaled(metric, metric.quantity, "TFLOP/s", flops, 1) for metric in suite.of("training alone", model)
        ]
        peaks = box.figures(lambda ceiling: ceiling.bfloat16_tflops)
        figures = {device: peak * relative if peak and relative else None for device, peak in peaks.items()}
        check = f"training, {name} {model}"
        yield from against_figures(check, metrics, figures, box.threshold("training"), box.names)


def scaling(box: Box) -> Iterator[Verdict]:
    """Judge the efficiency of weak scaling of each model under DDP."""
    suite = box.measured("ddp")
    for model in suite.workload.get("models", {}) if suite else {}:
        check, efficiency = f"scaling, {model}", suite.single("efficiency", model) if suite else None
        if efficiency is None:
            yield not_applicable("scaling needs at least two devices", check=check)
        else:
            yield judged(check, efficiency, box.threshold("ddp_efficiency"), f"efficiency {efficiency.median:.1%}")


def over_boxes(box: Box) -> Iterator[Verdict]:
    """Show the efficiency over several boxes, which is also that of their network: the pillar has no threshold."""
    suite = box.measured(TOGETHER)
    for efficiency in suite.of("efficiency") if suite else []:
        workload = suite.workload if suite else {}
        communication = suite.single("efficiency communication", efficiency.subject) if suite else None
        evidence = f"efficiency {efficiency.median:.1%} over {len(workload['boxes'])} boxes by {workload['backend']}"
        if communication:
            evidence += f", of the communication alone {communication.median:.1%}"
        yield judged(f"over boxes, {efficiency.subject}", efficiency, Threshold(None, ""), evidence)


def utilisation(box: Box) -> Iterator[Verdict]:
    """Judge how busy the least busy GPU was while DDP trained."""
    suite, threshold = box.measured("ddp"), box.threshold("utilisation")
    if not suite or not box.names or threshold.value is None:
        return
    readings = suite.sensors.get("steady", {})
    for device in box.names:
        busy, gpu = readings.get(device, {}).get("utilisation"), cards.index(device)
        if busy is None:
            evidence = "NVML returned no utilisation while DDP trained"
            yield Verdict(UNCERTAIN, evidence, "`gpu.health`", gpu=gpu)
            continue
        text = f"busy {busy['mean']:.1%} of the time while DDP trained"
        good = busy["mean"] > threshold.value
        yield Verdict("ok" if good else "fault", text, "" if good else cards.SLOW, str(threshold), gpu=gpu)


def tokens_per_second(box: Box) -> Iterator[Verdict]:
    """Judge the output tokens per second of one request at a time, on each replica of vLLM."""
    suite, threshold = box.measured("vllm"), box.threshold("vllm_tokens_per_s")
    rates = suite.of("output", "one request") if suite else []
    verdicts = [
        (
            rate.median,
            judged("tokens per second", rate, threshold, f"{rate.median:.4g} tokens/s", gpu=cards.index(rate.device)),
        )
        for rate in rates
        if rate.device
    ]
    yield from cards.collected(verdicts)


def roofline(box: Box) -> Iterator[Verdict]:
    """Compare decoding with the vendor's memory bandwidth; a measured one cannot show that a card is slow."""
    suite = box.measured("vllm")
    if not suite:
        return
    rates = [
        result.scaled(rate, rate.quantity, "GB/s", suite.workload["decode_bytes"] / 1e9, 1)
        for rate in suite.of("decode", "one request")
        if rate.device
    ]
    figures = box.figures(lambda ceiling: ceiling.memory_gb_s)
    yield from against_figures("roofline", rates, figures, box.threshold("vllm_roofline"), box.names)


def siblings(box: Box) -> Iterator[Verdict]:
    """Compare each card with the other cards of its model."""
    for name, quantities in PER_CARD.items():
        suite = box.measured(name)
        metrics = [
            metric
            for metric in (suite.metrics if suite else [])
            # cards that share a switch copy more slowly together than one that has its own
            if metric.quantity in quantities and metric.device and metric.subject != "together"
        ]
        for case in dict.fromkeys((metric.quantity, metric.subject) for metric in metrics):
            chosen = [metric for metric in metrics if (metric.quantity, metric.subject) == case]
            yield from among_siblings(chosen, box.threshold("siblings"), box.names)
