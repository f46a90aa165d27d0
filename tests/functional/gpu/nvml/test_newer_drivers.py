"""Drivers to come: what NVIDIA announced to remove with CUDA 14 is gone, and no protection of a card goes with it."""

import pytest
from fake_box import Box

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.detail import details
from vault_cube.gpu.read.readings import readings
from vault_cube.metrics import gpus


@pytest.fixture
def box_new(nvml_new, tmp_path):
    return Box(nvml_new, tmp_path)


@pytest.mark.parametrize("profile", ["4x5090", "h200", "8 mixed", "2x H100 NVL"])
def test_a_healthy_box_is_ok(box_new, profile):
    if profile != "4x5090":
        box_new.be(profile)
    assert box_new.bad() == {}


def test_the_temperature_is_there(box_new):
    box_new.nvml.gpu(2, temperature={0: 93})
    with Session() as session:
        assert [entry["temperature_c"] for entry in readings(session, full=False)] == [38, 38, 93, 38]
        families = {entry.name: entry.samples for entry in gpus.families(session, box_new.host)}
    assert [value for _, value in families["DCGM_FI_DEV_GPU_TEMP"]] == [38, 38, 93, 38]
    assert box_new.bad() == {"temperature": {2: "fault"}}


def test_violations_come_from_the_numbered_fields(box_new):
    box_new.nvml.gpu(2, field={75: 3_600_000_000_000, 74: 7_000_000_000})
    with Session() as session:
        assert details(session)[2]["held_down_s"] == {"thermal": 3600, "power": 7}
    assert box_new.bad() == {"throttling": {2: "warning"}}


def test_thresholds_come_from_distances(box_new):
    """An H200's: nvidia-smi gives a limit of 51 °C, -8, -2 and 0 at 36 °C, and the older function 95, 89 and 87."""
    box_new.nvml.gpu(
        2, temperature={0: 36}, margin=51, threshold={0: None, 1: None, 3: None}, field={193: -8, 194: -2, 196: 0}
    )
    with Session() as session:
        assert details(session)[2]["thresholds_c"] == {"shutdown_c": 95, "slowdown_c": 89, "gpu_max_c": 87}


def test_a_card_without_any_temperature_is_a_warning(box_new):
    box_new.nvml.gpu(2, error={"nvmlDeviceGetTemperatureV": 3})
    assert box_new.bad() == {"temperature": {2: "warning"}}


def test_an_old_driver_has_the_older_functions(nvml_old, tmp_path):
    box = Box(nvml_old, tmp_path)
    nvml_old.gpu(2, temperature={0: 93})
    nvml_old.gpu(1, violation={1: 3_600_000_000_000})
    assert box.bad() == {"temperature": {2: "fault"}, "throttling": {1: "warning"}}
