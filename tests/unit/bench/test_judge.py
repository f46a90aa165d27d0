"""Verdicts: a number that is bad is called bad."""

import pytest

from tests.unit.bench.conftest import a_result, machine, metric, suite
from vault_cube.bench.judge import criteria


def said(settings, suites, accelerator="nvidia"):
    return {one.name: one.said for one in a_result(settings, suites, accelerator=accelerator).verdicts}


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
        # what it must be more than, it must be more than
        ((0.8, 0.8, 0.8, 0.8, 0.8), "fail"),
        ((0.7, 0.9, 0.85, 0.75, 0.81), "uncertain"),
        ((0.9, 0.91, 0.92), "uncertain"),
    ],
)
def test_scaling(settings, samples, verdict):
    assert said(settings, {"ddp": ddp(*samples)})["ddp_transformer_efficiency"] == verdict


def test_one_device_is_not_judged_to_scale(settings):
    one = suite({"transformer_solo": metric(1, 1, 1, 1, 1)}, devices=1, models={"transformer": {}})
    assert said(settings, {"ddp": one})["ddp_transformer_efficiency"] == "not judged"


def test_on_a_processor_scaling_is_shown_and_not_judged(settings):
    found = said(settings, {"ddp": ddp(0.5, 0.5, 0.5, 0.5, 0.5)}, "cpu")
    assert found["ddp_transformer_efficiency"] == "not judged"


def test_one_idle_gpu_of_four_fails_utilisation(settings):
    assert said(settings, {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9, busy=0.5)})["utilisation"] == "fail"
    assert said(settings, {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9)})["utilisation"] == "pass"


def vllm(*rate, decode=100.0):
    metrics = {"batch1_output": metric(*rate), "batch1_decode": metric(*[decode] * 5)}
    return suite(metrics, decode_bytes=13_000_000_000, tensor_parallel=1)


def test_ten_tokens_a_second_are_not_enough_on_a_fast_gpu(settings):
    # 13 GB of weights at the vendor's 1,792 GB/s: a roofline of 138 tokens/s
    found = said(settings, {"vllm": vllm(11, 11, 11, 11, 11, decode=11.0)})
    assert found == {"vllm_tokens_per_s": "pass", "vllm_roofline": "fail"}
    found = said(settings, {"vllm": vllm(90, 90, 90, 90, 90)})
    assert found == {"vllm_tokens_per_s": "pass", "vllm_roofline": "pass"}
    assert said(settings, {"vllm": vllm(9, 9, 9, 9, 9)})["vllm_tokens_per_s"] == "fail"


def test_the_roofline_is_the_measured_bandwidths_where_there_is_one(settings):
    matmul = suite({f"copy_memory_{n}": metric(*[1500.0] * 5) for n in range(4)})
    derived = criteria.derived({"matmul": matmul, "vllm": vllm(90, 90, 90, 90, 90)}, settings.benchmark)
    assert derived["vllm_roofline"].median == pytest.approx(100 / (1500e9 / 13e9))


BFLOAT16 = {"transformer": {"precision": "bfloat16 autocast"}}


def test_mfu_against_the_vendors_peak_and_the_measured_product(settings):
    one = suite({"transformer_model_flops": metric(*[100.0] * 5)}, devices=4, models=BFLOAT16)
    matmul = suite({f"matmul_bfloat16_{n}": metric(*[200.0] * 5) for n in range(4)})
    derived = criteria.derived({"ddp": one, "matmul": matmul}, settings.benchmark)
    assert derived["transformer_mfu"].median == pytest.approx(100 / 209.5)
    assert derived["transformer_mfu_of_measured"].median == pytest.approx(0.5)


def test_an_unknown_device_has_no_vendors_peak(settings):
    one = suite(
        {"transformer_model_flops": metric(*[100.0] * 5)}, device="NVIDIA Unheard-of", devices=1, models=BFLOAT16
    )
    assert criteria.derived({"ddp": one}, settings.benchmark) == {}


def test_tensorflow_on_a_gpu_is_held_against_the_product_it_really_computes(settings):
    matmul = suite({"matmul_float32": metric(*[100.0] * 5), "matmul_tf32": metric(*[200.0] * 5)})
    one = suite({"model_flops": metric(*[150.0] * 5)}, devices=4, precision="tf32")
    derived = criteria.derived({"tensorflow": one, "matmul": matmul}, settings.benchmark)
    assert derived["tensorflow_mfu_of_measured"].median == pytest.approx(0.75)
    # TF32's mantissa has 10 bits: the vendor's bfloat16 peak is not its
    assert "tensorflow_mfu" not in derived


def test_two_workers_share_a_processors_product(settings):
    matmul = suite({"matmul_float32": metric(*[0.2] * 5)}, device="cpu")
    rate, models = {"resnet_model_flops": metric(*[0.05] * 5)}, {"resnet": {"precision": "float32"}}
    one = suite(rate, device="cpu", devices=2, models=models)
    derived = criteria.derived({"ddp": one, "matmul": matmul}, settings.benchmark)
    assert derived["resnet_mfu_of_measured"].median == pytest.approx(0.5)


def test_a_suite_that_failed_is_the_results_fault(settings):
    made = a_result(settings, {"ddp": ddp(0.9, 0.9, 0.9, 0.9, 0.9), "vllm": suite(status="failed")})
    assert made.verdict == "fault"
    assert [one.why for one in made.verdicts if one.said == "fault"] == ["hang: it broke"]


def test_a_box_without_its_gpus(settings):
    found = criteria.verdicts({}, {}, machine("cpu"), "nvidia", settings.benchmark)
    assert [one.said for one in found] == ["fault"]


def test_nothing_judged_is_nothing_proven(settings):
    assert a_result(settings, {}).verdict == "not judged"
