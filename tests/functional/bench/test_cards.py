"""A benchmark of four simulated cards, from the driver's readings to the verdict: who is slow, and what was read."""

from pathlib import Path

import pytest
import yaml
from fake_nvml import FakeNvml
from salt.utils.dictupdate import merge

TARGET = Path(__file__).resolve().parents[3] / "pillar/targets/ubuntu-24.04.sls"

# stands in for matmul.py: each card reaches SPEED[card] x 180 TFLOP/s, in a phase of two seconds
PRODUCTS = """
import os, time, workload
SPEED = {speed}
def main():
    workload.say("phase", "matmul")
    time.sleep(1.6)
    workload.say("phase")
    metrics = [
        workload.metric(
            "matmul", "TFLOP/s", [180 * speed * noise for noise in (0.99, 1.0, 1.01, 1.0, 1.005)],
            subject="bfloat16", device=f"cuda:{{gpu}}", phase="matmul",
        )
        for gpu, speed in enumerate(SPEED)
    ]
    return {{"workload": {{"visible": os.environ.get("CUDA_VISIBLE_DEVICES")}}, "versions": {{}},
            "device": "NVIDIA GeForce RTX 5090", "metrics": metrics}}
workload.run(main)
"""


@pytest.fixture
def four(bench, nvml_library):
    """Four cards, on a box whose target has four."""
    target = yaml.safe_load(TARGET.read_text())
    bench.pillar["target"]["accelerator"] = target["target"]["accelerator"]
    bench.pillar["driver"]["gates"] = merge(bench.pillar["driver"]["gates"], target["driver"]["gates"])
    bench.pillar["benchmark"]["quick"]["rounds"], bench.pillar["benchmark"]["quick"]["repeats"] = 1, 5
    fake = FakeNvml(bench.folder / "gpus", nvml_library)
    fake.every(temperature={0: 61}, power_mw=560000, clock={1: 2407})
    return fake


def measured(bench, four, speed):
    bench.workload("matmul", PRODUCTS.format(speed=speed))
    return bench.answer(bench.start(environment=four.environment, chosen=["matmul"]))


def test_four_healthy_cards_are_ok_and_their_sensors_are_beside_the_numbers(bench, four):
    result = measured(bench, four, [1.0, 0.99, 1.0, 0.98])
    assert result["verdict"] == "ok", result["verdicts"]
    assert result["machine"]["simulated"] is True
    readings = result["suites"]["matmul"]["sensors"]["matmul"]
    assert {device: fields["power_w"]["mean"] for device, fields in readings.items()} == {
        f"cuda:{gpu}": 560.0 for gpu in range(4)
    }
    assert readings["cuda:3"]["clock_mhz"]["least"] == 2407
    # CUDA numbers the cards in the order of NVML
    uuids = [gpu["uuid"] for gpu in four.state["gpus"]]
    assert result["suites"]["matmul"]["workload"]["visible"] == ",".join(uuids)


@pytest.mark.parametrize(("speed", "slow"), [([1 / 3] * 4, [0, 1, 2, 3]), ([1, 1, 1, 1 / 5], [3])])
def test_slow_cards_are_faults_that_name_card_and_number(bench, four, speed, slow):
    result = measured(bench, four, speed)
    assert result["verdict"] == "fault"
    faults = [verdict for verdict in result["verdicts"] if (verdict["check"], verdict["status"]) == ("matmul", "fault")]
    assert [fault["gpu"] for fault in faults] == slow
    for fault in faults:
        assert f"{180 * speed[fault['gpu']]:.4g} of 209.5 TFLOP/s" in fault["evidence"]
