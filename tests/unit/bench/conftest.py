"""Build results with given samples, to judge and compare them, and the result of a simulated box."""

import pytest
from copied import pillar_of

from vault_cube.bench.judge import cards, criteria, result
from vault_cube.bench.judge.derived import derived
from vault_cube.bench.judge.result import Check, Machine, Result, Suite
from vault_cube.settings import check
from vault_cube.verdicts import worst

RTX_5090 = "NVIDIA GeForce RTX 5090"
NOISE = (1.0, 1.004, 0.996, 1.002, 0.998, 1.001)


@pytest.fixture(scope="session")
def settings():
    """A target without a GPU."""
    return check(pillar_of("debian-12"))


@pytest.fixture(scope="session")
def gpu_settings():
    """The target with four GPUs."""
    return check(pillar_of("ubuntu-24.04"))


def metric(*samples, quantity="rate", unit="ratio", better="higher", **more):
    return result.metric({"quantity": quantity, "unit": unit, "better": better, "samples": list(samples)} | more, 0.1)


def suite(metrics=(), device=RTX_5090, status="measured", sensors=None, checks=(), **workload):
    return Suite(
        status=status,
        reason=None if status == "measured" else "it broke",
        kind=None if status == "measured" else "hang",
        seconds=1.0,
        command=[],
        device=device,
        workload=workload,
        versions={"torch": "2"},
        metrics=list(metrics),
        checks=list(checks),
        sensors=sensors or {},
    )


def machine(names=(RTX_5090,) * 4):
    return Machine(
        accelerator="nvidia" if names else "cpu",
        simulated=bool(names),
        processor="a processor",
        cores=2,
        memory_gib=1,
        kernel="6",
        system="a system",
        image=None,
        driver=None,
        gpus=[{"index": index, "name": name} for index, name in enumerate(names)],
        load=[0, 0, 0],
    )


def a_result(settings, suites, name="benchmark-a", names=(RTX_5090,) * 4):
    described = machine(names)
    extra = derived(suites, settings.benchmark, cards.names(described))
    verdicts = criteria.verdicts(suites, extra, described, settings)
    return Result(
        schema_version=2,
        name=name,
        started="2026-11-24T10:00:00Z",
        seconds=1,
        quick=True,
        forced=False,
        machine=described,
        suites=suites,
        derived=extra,
        verdicts=verdicts,
        verdict=worst(verdict.status for verdict in verdicts),
        notes=[],
    )


# what a healthy card reaches of each kind: share of the vendor's figure or of its PCIe link
REACHED = {"matmul": 0.85, "memory": 0.88, "pcie": 0.87, "training": 0.45, "tokens": 0.8}
FLOP_PER_SAMPLE = 1.6e12
DECODE_BYTES = 13.4e9


def simulated_box(settings, slow=lambda kind, gpu: 1.0, names=(RTX_5090,) * 4, figures=RTX_5090):
    """Return the suites of a simulated box.

    slow: returns the speed of a kind of work on a GPU, relative to a healthy one. names: of the cards. figures: name of
    the card whose published figures they reach.
    """
    ceiling = cards.ceiling(settings.benchmark.ceilings, figures)
    gpus = range(len(names))
    link = cards.link_gb_s(ceiling, settings.driver.gates)

    def rates(kind, gpu, full, quantity, unit, **more):
        speed = full * REACHED[kind] * slow(kind, gpu)
        return metric(*[speed * noise for noise in NOISE], quantity=quantity, unit=unit, device=f"cuda:{gpu}", **more)

    def together(values, quantity, unit="samples/s", **more):
        return metric(*[values * noise for noise in NOISE], quantity=quantity, unit=unit, **more)

    products = [
        rates("matmul", gpu, ceiling.bfloat16_tflops, "matmul", "TFLOP/s", subject="bfloat16", phase="matmul")
        for gpu in gpus
    ]
    copies = [rates("memory", gpu, ceiling.memory_gb_s, "memory copy", "GB/s") for gpu in gpus]
    copies += [
        rates("pcie", gpu, link * share, quantity, "GB/s", subject=subject)
        for gpu in gpus
        for subject, share in (("alone", 1), ("together", 0.7))
        for quantity in ("host to device", "device to host")
    ]
    peak = ceiling.bfloat16_tflops * 1e12 / FLOP_PER_SAMPLE
    alone = [rates("training", gpu, peak, "training alone", "samples/s", subject="transformer") for gpu in gpus]
    slowest, fastest = (choose(rate.median for rate in alone) for choose in (min, max))
    world = len(names)
    training = [
        *alone,
        together(0.95 * world * slowest, "training weak", subject="transformer"),
        together(0.95 * slowest / fastest, "efficiency", "ratio", subject="transformer"),
    ]
    decode = ceiling.memory_gb_s * 1e9 / DECODE_BYTES
    serving = [
        rates("tokens", gpu, decode, quantity, "output tokens/s", subject="one request", phase="one request")
        for gpu in gpus
        for quantity in ("output", "decode")
    ]
    busy = {f"cuda:{gpu}": {"utilisation": {"mean": 0.98}} for gpu in gpus}
    power = {f"cuda:{gpu}": {"power_w": {"mean": 400.0}, "temperature_c": {"mean": 70.0}} for gpu in gpus}
    reduced = [together(0.4 * link, "all reduce", "GB/s of bus bandwidth", subject="1 GiB")]
    checked = [Check(quantity="all reduce 1 GiB", device=None, peer=None, compared=1000, wrong=0)]
    model = {"precision": "bfloat16 autocast", "flop_per_sample": FLOP_PER_SAMPLE}
    return {
        "matmul": suite(products, names[0], devices=world, sensors={"matmul": power}),
        "copies": suite(copies, names[0], devices=world),
        "all_reduce": suite(reduced, names[0], devices=world, checks=checked),
        "ddp": suite(training, names[0], sensors={"steady": busy}, devices=world, models={"transformer": model}),
        "vllm": suite(serving, names[0], sensors={"one request": power}, devices=world, decode_bytes=DECODE_BYTES),
    }
