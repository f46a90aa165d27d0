"""Verdicts on metrics, and the metrics derived from several suites."""

import pytest

from tests.unit.bench.conftest import RTX_5090, a_result, machine, metric, simulated_box, suite
from vault_cube.bench.judge import criteria, derived
from vault_cube.bench.run import runner

NAMES = {f"cuda:{gpu}": RTX_5090 for gpu in range(4)}


def statuses(settings, suites, names=(RTX_5090,) * 4):
    return {verdict.check: verdict.status for verdict in a_result(settings, suites, names=names).verdicts}


def ddp(*efficiency, busy=0.97, silent=None):
    readings = {f"cuda:{n}": {"utilisation": {"mean": busy if n == 2 else 0.99}} for n in range(4) if n != silent}
    return suite(
        [metric(*efficiency, quantity="efficiency", subject="transformer")],
        sensors={"steady": readings},
        devices=4,
        models={"transformer": {"precision": "float32", "flop_per_sample": 1e9}},
    )


@pytest.mark.parametrize(
    ("samples", "status"),
    [
        ((0.9, 0.91, 0.92, 0.9, 0.93), "ok"),
        ((0.7, 0.71, 0.72, 0.7, 0.73), "fault"),
        # equal to the threshold is not above it
        ((0.8, 0.8, 0.8, 0.8, 0.8), "fault"),
        ((0.7, 0.9, 0.85, 0.75, 0.81), "uncertain"),
        ((0.9, 0.91, 0.92), "uncertain"),
    ],
)
def test_the_verdict_on_scaling_depends_on_the_whole_interval(gpu_settings, samples, status):
    assert statuses(gpu_settings, {"ddp": ddp(*samples)})["scaling, transformer"] == status


def test_scaling_of_one_device_is_not_applicable(gpu_settings):
    training = suite([metric(1, 1, 1, 1, 1, quantity="training alone")], devices=1, models={"transformer": {}})
    assert statuses(gpu_settings, {"ddp": training}, (RTX_5090,))["scaling, transformer"] == "not applicable"


def test_scaling_on_a_cpu_is_not_applicable(settings):
    verdicts = statuses(settings, {"ddp": ddp(0.5, 0.5, 0.5, 0.5, 0.5)}, names=())
    assert verdicts == {"scaling, transformer": "not applicable"}


def test_one_idle_gpu_of_four_is_a_fault(gpu_settings):
    well = {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9)}
    assert statuses(gpu_settings, well)["utilisation"] == "ok"
    idle = a_result(gpu_settings, {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9, busy=0.5)}).verdicts
    assert [(verdict.check, verdict.gpu) for verdict in idle if verdict.status == "fault"] == [("utilisation", 2)]


@pytest.mark.parametrize("gpu", [0, 3])
def test_a_gpu_without_utilisation_is_not_left_out(gpu_settings, gpu):
    verdicts = a_result(gpu_settings, {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9, silent=gpu)}).verdicts
    assert [verdict.gpu for verdict in verdicts if verdict.status == "uncertain"] == [gpu]


def vllm(rate, decode=100.0, devices=(None,)):
    rates = [
        metric(*[rate] * 5, quantity="output", subject="one request", device=device or "cuda:0") for device in devices
    ]
    decoded = metric(*[decode] * 5, quantity="decode", subject="one request", device="cuda:0")
    return suite([*rates, decoded], decode_bytes=13_000_000_000)


@pytest.mark.parametrize(
    ("rate", "decode", "expected"),
    [
        # 13 GB of weights at the vendor's 1,792 GB/s: a roofline of 138 tokens/s
        (11, 11.0, {"tokens per second": "ok", "roofline": "fault"}),
        (90, 100.0, {"tokens per second": "ok", "roofline": "ok"}),
        (9, 100.0, {"tokens per second": "fault", "roofline": "ok"}),
    ],
)
def test_eleven_tokens_per_second_are_too_few_for_a_fast_gpu(gpu_settings, rate, decode, expected):
    assert statuses(gpu_settings, {"vllm": vllm(rate, decode)}, (RTX_5090,)) == expected


def test_a_slow_memory_does_not_lower_the_roofline(gpu_settings):
    # both at a third: relative to the measured bandwidth, decoding would look fine
    suites = simulated_box(gpu_settings, lambda kind, _: 1 / 3 if kind in ("memory", "tokens") else 1.0)
    result = a_result(gpu_settings, suites)
    shares = [metric for metric in result.derived if metric.quantity == "roofline"]
    assert len(shares) == 4
    assert all(share.unit == derived.VENDORS_BANDWIDTH for share in shares)
    assert all(share.median == pytest.approx(0.8 / 3, rel=0.01) for share in shares)


def test_a_card_without_a_figure_has_a_roofline_of_its_measured_bandwidth(settings):
    copies = suite([metric(*[1500.0] * 5, quantity="memory copy", device=f"cuda:{n}") for n in range(4)])
    suites = {"copies": copies, "vllm": vllm(90)}
    (share,) = derived.derived(suites, settings.benchmark, {"cuda:0": "NVIDIA Unheard-of"})
    assert share.median == pytest.approx(100 / (1500e9 / 13e9))
    assert "measured" in share.unit


def test_tokens_per_joule_use_the_power_of_the_same_phase(gpu_settings):
    result = a_result(gpu_settings, simulated_box(gpu_settings))
    energy = {metric.device: metric for metric in result.derived if metric.quantity == "tokens per joule"}
    rate = result.suites["vllm"].of("output", "one request")[0]
    assert energy["cuda:0"].median == pytest.approx(rate.median / 400)


BFLOAT16 = {"transformer": {"precision": "bfloat16 autocast", "flop_per_sample": 1e12}}


def flops(value, model="transformer"):
    return metric(*[value] * 5, quantity="model flops", subject=model)


def test_mfu_against_the_vendors_peak_and_the_measured_product(settings):
    training = suite([flops(100.0)], devices=4, models=BFLOAT16)
    matmul = suite([metric(*[200.0] * 5, quantity="matmul", subject="bfloat16", device=f"cuda:{n}") for n in range(4)])
    shares = derived.derived({"ddp": training, "matmul": matmul}, settings.benchmark, NAMES)
    assert {share.quantity: round(share.median, 4) for share in shares} == {
        "mfu": round(100 / 209.5, 4),
        "mfu of the product": 0.5,
    }


def test_an_unknown_device_has_no_mfu_against_the_vendors_peak(settings):
    training = suite([flops(100.0)], device="NVIDIA Unheard-of", devices=1, models=BFLOAT16)
    assert derived.derived({"ddp": training}, settings.benchmark, {}) == []


def test_tensorflow_on_a_gpu_is_compared_with_tf32(settings):
    matmul = suite(
        [
            metric(*[value] * 5, quantity="matmul", subject=precision)
            for precision, value in (("float32", 50.0), ("tf32", 100.0))
        ]
    )
    training = suite([flops(75.0, "dense")], devices=4, models={"dense": {"precision": "tf32"}})
    shares = derived.derived({"tensorflow": training, "matmul": matmul}, settings.benchmark, NAMES)
    assert {share.quantity: round(share.median, 4) for share in shares} == {
        # half of the bfloat16 peak
        "mfu": round(75 / (209.5 / 2), 4),
        "mfu of the product": 0.75,
    }


def test_two_workers_share_the_matrix_product_of_a_cpu(settings):
    matmul = suite([metric(*[0.2] * 5, quantity="matmul", subject="float32")], device="cpu")
    training = suite([flops(0.05, "resnet")], device="cpu", devices=2, models={"resnet": {"precision": "float32"}})
    (share,) = derived.derived({"ddp": training, "matmul": matmul}, settings.benchmark, {})
    assert share.median == pytest.approx(0.5)


def test_a_failed_suite_is_a_fault(gpu_settings):
    result = a_result(gpu_settings, {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9), "vllm": suite(status="failed")})
    assert result.verdict == "fault"
    assert [verdict.evidence for verdict in result.verdicts if verdict.status == "fault"] == ["hang: it broke"]


def test_a_box_with_missing_gpus_is_a_fault(gpu_settings):
    verdicts = criteria.verdicts({}, [], machine(()), gpu_settings)
    assert [(verdict.check, verdict.status) for verdict in verdicts] == [("accelerator", "fault")]


def test_a_result_without_judged_metrics_is_not_applicable(settings):
    assert a_result(settings, {}, names=()).verdict == "not applicable"


def over_boxes(*efficiency, backend="gloo"):
    return suite(
        [
            metric(*efficiency, quantity="efficiency", subject="transformer"),
            metric(*efficiency, quantity="efficiency communication", subject="transformer"),
            *(metric(1, 1, 1, 1, 1, quantity="training alone", device=f"{box} cuda:0") for box in ("b1", "b2")),
        ],
        boxes=["b1", "b2"],
        backend=backend,
        models={"transformer": {"precision": "float32", "flop_per_sample": 1e9}},
    )


@pytest.mark.parametrize("names", [(), (RTX_5090,) * 4])
def test_training_over_boxes_is_shown_and_not_judged(gpu_settings, settings, names):
    chosen = gpu_settings if names else settings
    verdicts = a_result(chosen, {criteria.TOGETHER: over_boxes(0.3, 0.31, 0.3, 0.32, 0.3)}, names=names).verdicts
    assert [(verdict.check, verdict.status) for verdict in verdicts] == [("over boxes, transformer", "not applicable")]
    assert "over 2 boxes by gloo" in verdicts[0].evidence


def test_a_note_says_that_cpus_trained(settings):
    judged = runner.judge(settings, machine(()), {criteria.TOGETHER: over_boxes(0.3, 0.3, 0.3, 0.3, 0.3)}, [])
    (note,) = judged["notes"]
    assert note.startswith("b1 and b2 trained on their CPUs, over TCP (gloo): this says nothing about GPUs")
    nccl = {criteria.TOGETHER: over_boxes(0.3, 0.3, 0.3, 0.3, 0.3, backend="nccl")}
    assert not [note for note in runner.judge(settings, machine(()), nccl, [])["notes"] if "gloo" in note]
