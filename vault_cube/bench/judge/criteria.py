"""What follows from several suites, and the verdicts against the pillar's thresholds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from vault_cube.bench.judge import result
from vault_cube.bench.judge.result import Machine, Metric, Said, Suite, Verdict
from vault_cube.settings.benchmark import Benchmark, Ceiling, Thresholds

PEAKS = {"bfloat16 autocast": "matmul_bfloat16", "tf32": "matmul_tf32", "float32": "matmul_float32"}
"""What a workload computes in -> the measured product that bounds it."""


def ceiling(settings: Benchmark, device: str | None) -> Ceiling | None:
    """The vendor's promise for a device, by its name."""
    return next((one for one in settings.ceilings if one.device in (device or "")), None)


def derived(suites: Mapping[str, Suite], settings: Benchmark) -> dict[str, Metric]:
    """Model FLOP utilisation and shares of the roofline.

    MFU = model FLOP/s per device / peak FLOP/s (Chowdhery et al. 2022, appendix B), against the vendor's dense
    bfloat16 peak
    where it is known (`mfu`) and against the product measured here (`mfu_of_measured`). The roofline of decoding one
    sequence is memory bandwidth / bytes of weights read per token (Williams et al. 2009); the bandwidth is the
    measured one,
    the vendor's where none was measured.
    """
    spread = settings.quiet.spread
    found: dict[str, Metric] = {}

    def add(name: str, unit: str, samples: list[float]) -> None:
        found[name] = result.metric({"unit": unit, "better": "higher", "samples": samples}, spread)

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
            add(f"{name}_mfu", "share of the vendor's peak", [one / known.bfloat16_tflops for one in rate.samples])
        # a CPU's product uses all cores, a worker its share of them
        peak = _measured(suites, PEAKS[precision])
        if peak:
            workers = 1 if trained.device != "cpu" else int(trained.workload.get("devices", 1))
            add(
                f"{name}_mfu_of_measured",
                "share of the measured product",
                [one * workers / peak for one in rate.samples],
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
                [one / roof for one in vllm.metrics["batch1_decode"].samples],
            )
    return found


def _measured(suites: Mapping[str, Suite], name: str) -> float | None:
    """A ceiling that was measured; the median of the devices where there are several."""
    metrics = suites["matmul"].metrics if "matmul" in suites else {}
    medians = [
        one.median for key, one in metrics.items() if key == name or (key.startswith(f"{name}_") and key[-1].isdigit())
    ]
    return statistics.median(medians) if medians else None


def verdicts(
    suites: Mapping[str, Suite], extra: Mapping[str, Metric], machine: Machine, wanted: str, settings: Benchmark
) -> list[Verdict]:
    """One verdict a question. wanted: the target's accelerator; a box that lost its GPUs does not pass as a CPU."""
    thresholds = settings.thresholds[machine.accelerator]
    said = []
    if wanted != machine.accelerator:
        said.append(
            _bare("accelerator", "fault", f"the target has {wanted}, these numbers come from {machine.accelerator}")
        )
    for name, suite in suites.items():
        if suite.status in ("failed", "interrupted"):
            said.append(_bare(name, "fault", f"{suite.kind}: {suite.reason}"))
    return [
        *said,
        *_ddp(suites, machine, thresholds),
        *_vllm(suites, extra, thresholds),
        *_utilisation(suites, machine, thresholds),
    ]


def _ddp(suites: Mapping[str, Suite], machine: Machine, thresholds: Thresholds) -> list[Verdict]:
    ddp = suites.get("ddp")
    if not ddp or ddp.status != "measured":
        return []
    found = []
    for name in ddp.workload.get("models", {}):
        efficiency = ddp.metrics.get(f"{name}_efficiency")
        if efficiency is None:
            found.append(_bare(f"ddp_{name}_efficiency", "not judged", "one device does not scale"))
        else:
            found.append(judged(f"ddp_{name}_efficiency", efficiency, thresholds.ddp_efficiency, machine.accelerator))
    return found


def _vllm(suites: Mapping[str, Suite], extra: Mapping[str, Metric], thresholds: Thresholds) -> list[Verdict]:
    vllm = suites.get("vllm")
    if not vllm or vllm.status != "measured":
        return []
    where = "cpu" if vllm.device == "cpu" else "nvidia"
    found = [judged("vllm_tokens_per_s", vllm.metrics["batch1_output"], thresholds.vllm_tokens_per_s, where)]
    if "vllm_roofline" in extra:
        found.append(judged("vllm_roofline", extra["vllm_roofline"], thresholds.vllm_roofline, where))
    elif thresholds.vllm_roofline is not None:
        found.append(_bare("vllm_roofline", "not judged", "no memory bandwidth is known: the suite matmul measures it"))
    return found


def _utilisation(suites: Mapping[str, Suite], machine: Machine, thresholds: Thresholds) -> list[Verdict]:
    ddp = suites.get("ddp")
    if not ddp or ddp.status != "measured" or machine.accelerator == "cpu":
        return []
    shares = [one["utilisation"]["mean"] for one in ddp.sensors.values() if "utilisation" in one]
    if not shares:
        return [_bare("utilisation", "not judged", "NVML said nothing while DDP trained")]
    least, limit = min(shares), thresholds.utilisation
    if limit is None:
        return [_bare("utilisation", "not judged", "the pillar has no threshold", least)]
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
    """Pass when the whole interval is above the threshold, fail when all of it is below, else uncertain."""
    said: Said
    if threshold is None:
        said, why = "not judged", f"the pillar has no threshold for this on {accelerator}"
    elif metric.low is None or metric.high is None:
        said, why = "uncertain", f"{len(metric.samples)} samples give no interval"
    elif metric.low > threshold:
        said, why = "pass", "the whole interval is above the threshold"
    elif metric.high <= threshold:
        said, why = "fail", "the whole interval is at or below the threshold"
    else:
        said, why = "uncertain", "the interval holds the threshold: measure again on a quieter machine, or longer"
    if metric.noisy:
        why += f"; noisy: the samples vary by {metric.variation:.0%}"
    return Verdict(
        name=name, said=said, value=metric.median, low=metric.low, high=metric.high, threshold=threshold, why=why
    )


def _bare(name: str, said: Said, why: str, value: float | None = None) -> Verdict:
    return Verdict(name=name, said=said, value=value, low=None, high=None, threshold=None, why=why)
