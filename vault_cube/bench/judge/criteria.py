"""Metrics derived from several suites, and the verdicts against the pillar's thresholds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from vault_cube.bench.judge import result
from vault_cube.bench.judge.result import Machine, Metric, Outcome, Suite, Verdict
from vault_cube.settings.benchmark import Benchmark, Ceiling, Thresholds

PEAKS = {"bfloat16 autocast": "matmul_bfloat16", "tf32": "matmul_tf32", "float32": "matmul_float32"}
"""Precision of a workload -> the measured matrix product that is its upper bound."""


def ceiling(settings: Benchmark, device: str | None) -> Ceiling | None:
    """Return the vendor's peak figures for a device, matched by its name; None if the pillar has none."""
    return next((peaks for peaks in settings.ceilings if peaks.device in (device or "")), None)


def derived(suites: Mapping[str, Suite], settings: Benchmark) -> dict[str, Metric]:
    """Return model FLOP utilisation (MFU) and the share of vLLM's roofline, by name.

    MFU = model FLOP/s per device / peak FLOP/s (Chowdhery et al. 2022, appendix B), against the vendor's dense
    bfloat16 peak if it is known (`mfu`), and against the matrix product measured in the same run (`mfu_of_measured`).
    The roofline of decoding one sequence is memory bandwidth / bytes of weights read per token (Williams et al. 2009);
    the bandwidth is the measured one, or the vendor's if none was measured.
    """
    spread = settings.quiet.spread
    metrics: dict[str, Metric] = {}

    def add(name: str, unit: str, samples: list[float]) -> None:
        metrics[name] = result.metric({"unit": unit, "better": "higher", "samples": samples}, spread)

    for suite, key in (("ddp", "transformer"), ("ddp", "resnet"), ("tensorflow", "")):
        if suite not in suites:
            continue
        trained = suites[suite]
        rate = trained.metrics.get(f"{key}_model_flops" if key else "model_flops")
        precision = (trained.workload.get("models", {}).get(key) or trained.workload).get("precision")
        if rate is None or precision not in PEAKS:
            continue
        name = key or suite
        known = ceiling(settings, trained.device)
        if known and precision == "bfloat16 autocast":
            add(
                f"{name}_mfu", "share of the vendor's peak", [sample / known.bfloat16_tflops for sample in rate.samples]
            )
        # the measured product of a CPU uses all cores; each worker has only its share of them
        peak = _measured(suites, PEAKS[precision])
        if peak:
            workers = 1 if trained.device != "cpu" else int(trained.workload.get("devices", 1))
            add(
                f"{name}_mfu_of_measured",
                "share of the measured product",
                [sample * workers / peak for sample in rate.samples],
            )
    vllm = suites.get("vllm")
    if vllm and "batch1_decode" in vllm.metrics:
        known = ceiling(settings, vllm.device)
        bandwidth = _measured(suites, "copy_memory") or (known.memory_gb_s if known else None)
        if bandwidth:
            roof = bandwidth * 1e9 * vllm.workload["tensor_parallel"] / vllm.workload["decode_bytes"]
            add(
                "vllm_roofline",
                "share of memory bandwidth",
                [sample / roof for sample in vllm.metrics["batch1_decode"].samples],
            )
    return metrics


def _measured(suites: Mapping[str, Suite], name: str) -> float | None:
    """Return a measured ceiling by name: the median over all devices, or None if it was not measured."""
    metrics = suites["matmul"].metrics if "matmul" in suites else {}
    medians = [
        metric.median
        for key, metric in metrics.items()
        if key == name or (key.startswith(f"{name}_") and key[-1].isdigit())
    ]
    return statistics.median(medians) if medians else None


def verdicts(
    suites: Mapping[str, Suite], extra: Mapping[str, Metric], machine: Machine, wanted: str, settings: Benchmark
) -> list[Verdict]:
    """Return one verdict per threshold, and a fault for each suite that failed.

    extra: the derived metrics. wanted: the target's accelerator; a GPU box whose GPUs are missing gets a fault.
    """
    thresholds = settings.thresholds[machine.accelerator]
    faults = []
    if wanted != machine.accelerator:
        faults.append(
            _bare("accelerator", "fault", f"the target requires {wanted}, but {machine.accelerator} was measured")
        )
    for name, suite in suites.items():
        if suite.status in ("failed", "interrupted"):
            faults.append(_bare(name, "fault", f"{suite.kind}: {suite.reason}"))
    return [
        *faults,
        *_ddp(suites, machine, thresholds),
        *_vllm(suites, extra, thresholds),
        *_utilisation(suites, machine, thresholds),
    ]


def _ddp(suites: Mapping[str, Suite], machine: Machine, thresholds: Thresholds) -> list[Verdict]:
    ddp = suites.get("ddp")
    if not ddp or ddp.status != "measured":
        return []
    judgements = []
    for name in ddp.workload.get("models", {}):
        efficiency = ddp.metrics.get(f"{name}_efficiency")
        if efficiency is None:
            judgements.append(_bare(f"ddp_{name}_efficiency", "not judged", "scaling needs at least two devices"))
        else:
            judgements.append(
                judged(f"ddp_{name}_efficiency", efficiency, thresholds.ddp_efficiency, machine.accelerator)
            )
    return judgements


def _vllm(suites: Mapping[str, Suite], extra: Mapping[str, Metric], thresholds: Thresholds) -> list[Verdict]:
    vllm = suites.get("vllm")
    if not vllm or vllm.status != "measured":
        return []
    accelerator = "cpu" if vllm.device == "cpu" else "nvidia"
    judgements = [judged("vllm_tokens_per_s", vllm.metrics["batch1_output"], thresholds.vllm_tokens_per_s, accelerator)]
    if "vllm_roofline" in extra:
        judgements.append(judged("vllm_roofline", extra["vllm_roofline"], thresholds.vllm_roofline, accelerator))
    elif thresholds.vllm_roofline is not None:
        judgements.append(
            _bare("vllm_roofline", "not judged", "no memory bandwidth is known; run the suite matmul to measure it")
        )
    return judgements


def _utilisation(suites: Mapping[str, Suite], machine: Machine, thresholds: Thresholds) -> list[Verdict]:
    ddp = suites.get("ddp")
    if not ddp or ddp.status != "measured" or machine.accelerator == "cpu":
        return []
    shares = [fields["utilisation"]["mean"] for fields in ddp.sensors.values() if "utilisation" in fields]
    if not shares:
        return [_bare("utilisation", "not judged", "NVML returned no utilisation while DDP trained")]
    least, limit = min(shares), thresholds.utilisation
    if limit is None:
        return [_bare("utilisation", "not judged", "the pillar has no threshold for utilisation", least)]
    return [
        Verdict(
            name="utilisation",
            said="pass" if least > limit else "fail",
            value=least,
            low=None,
            high=None,
            threshold=limit,
            why=f"busy share of the least busy of {len(shares)} GPU(s) while DDP trains",
        )
    ]


def judged(name: str, metric: Metric, threshold: float | None, accelerator: str) -> Verdict:
    """Judge a metric: pass if its whole interval is above the threshold, fail if none of it is, else uncertain.

    name: the verdict's name. threshold: None gives `not judged`. accelerator: named in the reason for `not judged`.
    """
    outcome: Outcome
    if threshold is None:
        outcome, why = "not judged", f"the pillar has no threshold for this on {accelerator}"
    elif metric.low is None or metric.high is None:
        outcome, why = "uncertain", f"{len(metric.samples)} samples are too few for an interval"
    elif metric.low > threshold:
        outcome, why = "pass", "the whole interval is above the threshold"
    elif metric.high <= threshold:
        outcome, why = "fail", "the whole interval is at or below the threshold"
    else:
        outcome, why = "uncertain", "the interval contains the threshold; measure again on a quieter machine, or longer"
    if metric.noisy:
        why += f"; noisy: the samples vary by {metric.variation:.0%}"
    return Verdict(
        name=name, said=outcome, value=metric.median, low=metric.low, high=metric.high, threshold=threshold, why=why
    )


def _bare(name: str, outcome: Outcome, why: str, value: float | None = None) -> Verdict:
    return Verdict(name=name, said=outcome, value=value, low=None, high=None, threshold=None, why=why)
