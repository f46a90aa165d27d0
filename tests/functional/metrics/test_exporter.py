"""The GPUs' metrics over the fake NVML: dcgm-exporter's names and units, and what happens when the driver fails."""

import os
import subprocess
import sys

import pytest
from copied import TOP

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.host import Host
from vault_cube.metrics import gpus
from vault_cube.metrics.__main__ import main

SAME = ("UUID", "pci_bus_id", "device", "modelName")
XID = "{at} box kernel: NVRM: Xid (PCI:{bus}): {xid}, pid=1, name=python, something\n"


@pytest.fixture
def evidence(tmp_path):
    """said(log, beside_dcgm) is all metrics: {name: {labels without those that never differ: value}}."""

    def ask(log="", **options):
        if log is not None:
            (tmp_path / "kernel.log").write_text(log)
        with Session(0.5) as session:
            families = gpus.families(session, Host(tmp_path), **options)
        return {
            entry.name: {tuple(v for k, v in labels.items() if k not in SAME): value for labels, value in entry.samples}
            for entry in families if entry.samples
        }  # fmt: skip

    return ask


def test_units_are_dcgm_s(nvml, evidence):
    nvml.profile("h200")
    nvml.gpu(0, memory={"used": 10 << 30}, utilisation={"gpu": 93}, temperature={0: 61})
    nvml.gpu(0, power_mw=701_500, energy_mj=5000)
    result = evidence()
    mine = {
        name.removeprefix("DCGM_FI_DEV_"): values["0",] for name, values in result.items() if name.startswith("DCGM")
    }
    used = {name: mine[name] for name in ("FB_USED", "GPU_UTIL", "POWER_USAGE", "TOTAL_ENERGY_CONSUMPTION", "GPU_TEMP")}
    assert used == {
        "FB_USED": 10240, "GPU_UTIL": 93, "POWER_USAGE": 701.5, "TOTAL_ENERGY_CONSUMPTION": 5000, "GPU_TEMP": 61,
    }  # fmt: skip
    assert mine["FB_USED"] + mine["FB_FREE"] <= 143771
    assert (mine["MEMORY_TEMP"], mine["ECC_DBE_VOL_TOTAL"], mine["PCIE_LINK_GEN"]) == (34, 0, 5)
    assert "FAN_SPEED" not in mine


def test_what_a_card_lacks_is_absent(nvml, evidence):
    result = evidence()
    assert "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL" not in result
    assert result["DCGM_FI_DEV_FAN_SPEED"]["0",] == 30


def test_a_driver_that_does_not_know_its_processes_has_not_none(nvml, evidence):
    nvml.gpu(2, error=dict.fromkeys(("nvmlDeviceGetComputeRunningProcesses_v3",
                                     "nvmlDeviceGetGraphicsRunningProcesses_v3"), 3))  # fmt: skip
    assert {key[0] for key in evidence()["vault_cube_gpu_processes"]} == {"0", "1", "3"}


def test_beside_dcgm_exporter_nothing_is_said_twice(nvml, evidence):
    result = evidence(beside_dcgm=True)
    assert not [name for name in result if name.startswith("DCGM")]
    assert result["vault_cube_gpus"] == {(): 4}


def test_every_throttle_reason_is_a_series(nvml, evidence):
    nvml.gpu(1, throttle=0x8 | 0x4 | 0x8000)
    reasons = {key[1:]: value for key, value in evidence()["vault_cube_gpu_throttled"].items() if key[0] == "1"}
    assert {key for key, value in reasons.items() if value} == {
        ("hw_slowdown", "fault"), ("sw_power_cap", "power"), ("0x8000", "unknown"),
    }  # fmt: skip
    assert len(reasons) == 12


def test_xids_find_their_gpu_and_one_that_is_gone_has_none(nvml, evidence):
    log = XID.format(at="1700000000.5", bus="0000:31:00", xid=79) + XID.format(
        at="1700000009.0", bus="0000:31:00", xid=63
    )
    log += XID.format(at="1700000001.0", bus="0000:c1:00", xid=48) + "1700000002.0 box kernel: nvidia: no xid\n"
    result = evidence(log)
    assert result["vault_cube_gpu_xid_timestamp_seconds"] == {
        ("1", "79", "fault"): 1700000000.5, ("1", "63", "info"): 1700000009.0, ("?", "48", "fault"): 1700000001.0,
    }  # fmt: skip
    assert result["DCGM_FI_DEV_XID_ERRORS"] == {("0",): 0, ("1",): 63, ("2",): 0, ("3",): 0}


def test_a_log_that_cannot_be_read_is_not_a_log_without_xids(nvml, evidence):
    result = evidence(None)
    assert "DCGM_FI_DEV_XID_ERRORS" not in result
    assert "vault_cube_gpu_xid_timestamp_seconds" not in result
    assert result["vault_cube_gpu_log_readable"] == {(): 0}
    assert evidence("")["DCGM_FI_DEV_XID_ERRORS"] == {(str(n),): 0 for n in range(4)}
    assert evidence("")["vault_cube_gpu_log_readable"] == {(): 1}


def test_xids_of_mig_and_losses_without_an_xid(nvml, evidence):
    log = "1700000000.5 box kernel: NVRM: Xid (PCI:0000:31:00 GPU-I:05): 95, pid=1, name=python, Uncontained\n"
    log += "1700000001.5 box kernel: NVRM: GPU 0000:51:00.0: GPU has fallen off the bus.\n"
    assert evidence(log)["DCGM_FI_DEV_XID_ERRORS"] == {("0",): 0, ("1",): 95, ("2",): 79, ("3",): 0}


def test_a_gpu_that_is_lost_in_the_middle_of_a_read(nvml, evidence):
    nvml.gpu(2, error={"nvmlDeviceGetPowerUsage": 15})
    result = evidence()
    assert result["vault_cube_gpu_answers"] == {("0",): 1, ("1",): 1, ("2",): 0, ("3",): 1}
    assert result["vault_cube_gpus"] == {(): 3}
    assert ("2",) not in result["DCGM_FI_DEV_GPU_TEMP"]


def test_a_driver_that_hangs_costs_its_gpu_only(nvml, evidence):
    nvml.gpu(3, hang={"nvmlDeviceGetTemperature": 1})
    result = evidence()
    assert result["vault_cube_gpu_answers"]["3",] == 0
    assert result["DCGM_FI_DEV_GPU_TEMP"]["0",] == 38


def test_without_a_driver_that_is_what_it_says(evidence, monkeypatch):
    monkeypatch.setattr("vault_cube.gpu.nvml.failures.LIBRARY", "libnvidia-ml-nowhere.so.1")
    assert evidence() == {
        "vault_cube_gpus": {(): 0}, "vault_cube_gpu_problem": {("no library",): 1}, "vault_cube_gpu_simulated": {(): 0},
    }  # fmt: skip


@pytest.mark.parametrize("folder", ["nowhere", "file/below"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, folder):
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "vault_cube.metrics", "gpus", tmp_path / folder, "--answer-s=1"]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(TOP)}
    )
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert folder in ran.stderr


@pytest.mark.parametrize("limit_s", [0.3, 1])
def test_the_service_s_time_limit_is_the_one_it_is_given(nvml, tmp_path, monkeypatch, limit_s):
    limits = []

    class Recorded(Session):
        def __init__(self, answer_s):
            limits.append(answer_s)
            super().__init__(answer_s)

    monkeypatch.setattr("vault_cube.gpu.nvml.session.Session", Recorded)
    nvml.gpu(3, hang={"nvmlDeviceGetTemperature": 1})
    assert main(["gpus", str(tmp_path), "--answer-s", str(limit_s)]) == 0
    assert limits == [limit_s]
    assert 'gpu="2"' in (tmp_path / "vault-cube-gpus.prom").read_text()


def test_the_service_without_a_time_limit_says_what_it_needs(nvml, tmp_path):
    ran = readings(nvml, tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].endswith("gpus needs --answer-s, the pillar's gpu:answer_s")


def readings(nvml, folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "vault_cube.metrics", "gpus", folder, *words],
        check=False, capture_output=True, text=True, cwd=TOP, env={**os.environ, **nvml.environment}, timeout=60,
    )  # fmt: skip
