"""Metrics derived from several suites: model FLOP utilisation, the share of vLLM's roofline, tokens per joule."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from vault_cube.bench.judge import cards, result
from vault_cube.bench.judge.result import Metric, Suite
from vault_cube.settings.benchmark import Benchmark

PRODUCTS = {"bfloat16 autocast": "bfloat16", "tf32": "tf32", "float32": "float32"}
"""Precision of a workload -> the measured matrix product that is its upper bound."""
PEAKS = {"bfloat16 autocast": 1.0, "tf32": 0.5}
"""Precision of a workload -> its peak relative to the dense bfloat16 peak. TF32 has half of it on all cards since
Ampere (NVIDIA Ampere, Ada, Hopper and RTX Blackwell architecture papers)."""


VENDORS_BANDWIDTH = "share of the vendor's memory bandwidth"
"""Unit of a roofline that is based on the vendor's figure."""


def derived(suites: Mapping[str, Suite], settings: Benchmark, names: Mapping[str, str]) -> list[Metric]:
    """Return the metrics that need more than one suite, or a suite and a vendor's figure.

    `mfu` is model FLOP/s per device / peak FLOP/s (Chowdhery et al. 2022, appendix B) against the vendor's dense peak,
    `mfu of the product` the same against the matrix product measured in the same run. `roofline` is decoding of one
    request against memory bandwidth / bytes read per token, weights and KV cache (Williams et al. 2009); the bandwidth
    is the vendor's, or the measured copy's on a card without a figure. `tokens per joule` is output tokens/s over the
    mean power of the GPUs in the same phase. names: of the GPUs by device.
    """
    return [*_training(suites, settings), *_roofline(suites, settings, names), *_tokens_per_joule(suites, settings)]


def _training(suites: Mapping[str, Suite], settings: Benchmark) -> list[Metric]:
    metrics = []
    for name in ("ddp", "tensorflow"):
        suite = suites.get(name)
        if not suite or suite.status != "measured":
            continue
        figures = cards.ceiling(settings.ceilings, suite.device)
        for rate in suite.of("model flops"):
            precision = suite.workload.get("models", {}).get(rate.subject, suite.workload).get("precision")
            if figures and figures.bfloat16_tflops and precision in PEAKS:
                peak = figures.bfloat16_tflops * PEAKS[precision]
                metrics.append(
                    result.scaled(rate, "mfu", "share of the vendor's peak", 1 / peak, settings.quiet.spread)
                )
            product = _product(suites, PRODUCTS.get(precision, ""))
            if product:
                # the measured product of a CPU uses all cores; each worker has only its share of them
                workers = 1 if suite.device != "cpu" else int(suite.workload.get("devices", 1))
                unit = "share of the measured product"
                metrics.append(
                    result.scaled(rate, "mfu of the product", unit, workers / product, settings.quiet.spread)
                )
    return metrics


def _product(suites: Mapping[str, Suite], precision: str) -> float | None:
    """Return the measured product of a precision: the median over all devices, or None if it was not measured."""
    medians = [metric.median for metric in suites["matmul"].of("matmul", precision)] if "matmul" in suites else []
    return statistics.median(medians) if medians else None


def _roofline(suites: Mapping[str, Suite], settings: Benchmark, names: Mapping[str, str]) -> list[Metric]:
    vllm, copies = suites.get("vllm"), suites.get("copies")
    if not vllm or vllm.status != "measured":
        return []
    copied = [metric.median for metric in copies.of("memory copy")] if copies else []
    metrics = []
    for rate in vllm.of("decode", "one request"):
        figures = cards.ceiling(settings.ceilings, names.get(rate.device or ""))
        bandwidth, unit = (
            (figures.memory_gb_s, VENDORS_BANDWIDTH)
            if figures and figures.memory_gb_s
            else (statistics.median(copied) if copied else None, "share of the measured memory bandwidth")
        )
        if bandwidth:
            factor = vllm.workload["decode_bytes"] / (bandwidth * 1e9)
            metrics.append(result.scaled(rate, "roofline", unit, factor, settings.quiet.spread))
    return metrics


def _tokens_per_joule(suites: Mapping[str, Suite], settings: Benchmark) -> list[Metric]:
    vllm = suites.get("vllm")
    metrics = []
    for rate in vllm.of("output") if vllm else []:
        readings = vllm.sensors.get(rate.phase or "", {}) if vllm else {}
        chosen = [
            fields["power_w"]["mean"]
            for device, fields in readings.items()
            if "power_w" in fields and rate.device in (None, device)
        ]
        if chosen and sum(chosen) > 0:
            metrics.append(
                result.scaled(rate, "tokens per joule", "output tokens/J", 1 / sum(chosen), settings.quiet.spread)
            )
    return metrics
