"""Verdicts on metrics, and the metrics derived from several suites."""

import pytest

from tests.unit.bench.conftest import a_result, machine, metric, suite
from vault_cube.bench.judge import criteria


def outcomes(settings, suites, accelerator="nvidia"):
    return {verdict.name: verdict.said for verdict in a_result(settings, suites, accelerator=accelerator).verdicts}


def ddp(*efficiency, busy=0.97, **more):
    sensors = {f"cuda:{n}": {"utilisation": {"mean": busy if n == 2 else 0.99}} for n in range(4)}
    return suite(
        {"transformer_efficiency": metric(*efficiency)}, sensors=sensors, devices=4, models={"transformer": {}}, **more
    )


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ((0.9, 0.91, 0.92, 0.9, 0.93), "pass"),
        ((0.7, 0.71, 0.72, 0.7, 0.73), "fail"),
        # equal to the threshold is not above it
        ((0.8, 0.8, 0.8, 0.8, 0.8), "fail"),
        ((0.7, 0.9, 0.85, 0.75, 0.81), "uncertain"),
        ((0.9, 0.91, 0.92), "uncertain"),
    ],
)
def test_the_verdict_on_scaling_depends_on_the_whole_interval(settings, samples, verdict):
    assert outcomes(settings, {"ddp": ddp(*samples)})["ddp_transformer_efficiency"] == verdict


def test_scaling_of_one_device_is_not_judged(settings):
    training = suite({"transformer_solo": metric(1, 1, 1, 1, 1)}, devices=1, models={"transformer": {}})
    assert outcomes(settings, {"ddp": training})["ddp_transformer_efficiency"] == "not judged"


def test_scaling_on_a_cpu_is_not_judged(settings):
    verdicts = outcomes(settings, {"ddp": ddp(0.5, 0.5, 0.5, 0.5, 0.5)}, "cpu")
    assert verdicts["ddp_transformer_efficiency"] == "not judged"


def test_one_idle_gpu_of_four_fails_utilisation(settings):
    assert outcomes(settings, {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9, busy=0.5)})["utilisation"] == "fail"
    assert outcomes(settings, {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9)})["utilisation"] == "pass"


def vllm(*rate, decode=100.0):
    metrics = {"batch1_output": metric(*rate), "batch1_decode": metric(*[decode] * 5)}
    return suite(metrics, decode_bytes=13_000_000_000, tensor_parallel=1)


def test_eleven_tokens_per_second_fail_the_roofline_of_a_fast_gpu(settings):
    # 13 GB of weights at the vendor's 1,792 GB/s: a roofline of 138 tokens/s
    verdicts = outcomes(settings, {"vllm": vllm(11, 11, 11, 11, 11, decode=11.0)})
    assert verdicts == {"vllm_tokens_per_s": "pass", "vllm_roofline": "fail"}
    verdicts = outcomes(settings, {"vllm": vllm(90, 90, 90, 90, 90)})
    assert verdicts == {"vllm_tokens_per_s": "pass", "vllm_roofline": "pass"}
    assert outcomes(settings, {"vllm": vllm(9, 9, 9, 9, 9)})["vllm_tokens_per_s"] == "fail"


def test_the_roofline_uses_the_measured_bandwidth_if_there_is_one(settings):
    matmul = suite({f"copy_memory_{n}": metric(*[1500.0] * 5) for n in range(4)})
    derived = criteria.derived({"matmul": matmul, "vllm": vllm(90, 90, 90, 90, 90)}, settings.benchmark)
    assert derived["vllm_roofline"].median == pytest.approx(100 / (1500e9 / 13e9))


BFLOAT16 = {"transformer": {"precision": "bfloat16 autocast"}}


def test_mfu_against_the_vendors_peak_and_the_measured_product(settings):
    training = suite({"transformer_model_flops": metric(*[100.0] * 5)}, devices=4, models=BFLOAT16)
    matmul = suite({f"matmul_bfloat16_{n}": metric(*[200.0] * 5) for n in range(4)})
    derived = criteria.derived({"ddp": training, "matmul": matmul}, settings.benchmark)
    assert derived["transformer_mfu"].median == pytest.approx(100 / 209.5)
    assert derived["transformer_mfu_of_measured"].median == pytest.approx(0.5)


def test_an_unknown_device_has_no_mfu_against_the_vendors_peak(settings):
    training = suite(
        {"transformer_model_flops": metric(*[100.0] * 5)}, device="NVIDIA Unheard-of", devices=1, models=BFLOAT16
    )
    assert criteria.derived({"ddp": training}, settings.benchmark) == {}


def test_tensorflow_on_a_gpu_is_compared_with_the_tf32_product(settings):
    matmul = suite({"matmul_float32": metric(*[100.0] * 5), "matmul_tf32": metric(*[200.0] * 5)})
    training = suite({"model_flops": metric(*[150.0] * 5)}, devices=4, precision="tf32")
    derived = criteria.derived({"tensorflow": training, "matmul": matmul}, settings.benchmark)
    assert derived["tensorflow_mfu_of_measured"].median == pytest.approx(0.75)
    # TensorFlow computes in TF32 (10 bits of mantissa), so the vendor's bfloat16 peak does not apply
    assert "tensorflow_mfu" not in derived


def test_two_workers_share_the_matrix_product_of_a_cpu(settings):
    matmul = suite({"matmul_float32": metric(*[0.2] * 5)}, device="cpu")
    rate, models = {"resnet_model_flops": metric(*[0.05] * 5)}, {"resnet": {"precision": "float32"}}
    training = suite(rate, device="cpu", devices=2, models=models)
    derived = criteria.derived({"ddp": training, "matmul": matmul}, settings.benchmark)
    assert derived["resnet_mfu_of_measured"].median == pytest.approx(0.5)


def test_a_failed_suite_makes_the_verdict_a_fault(settings):
    result = a_result(settings, {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9), "vllm": suite(status="failed")})
    assert result.verdict == "fault"
    assert [verdict.why for verdict in result.verdicts if verdict.said == "fault"] == ["hang: it broke"]


def test_a_box_with_missing_gpus_gets_a_fault(settings):
    verdicts = criteria.verdicts({}, {}, machine("cpu"), "nvidia", settings.benchmark)
    assert [verdict.said for verdict in verdicts] == ["fault"]


def test_a_result_without_judged_metrics_is_not_judged(settings):
    assert a_result(settings, {}).verdict == "not judged"
