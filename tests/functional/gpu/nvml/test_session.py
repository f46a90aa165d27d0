"""Every way in which NVML fails is one line; the caller stays, and asks again."""

import json
import os
import subprocess
import sys
import time

import pytest
from copied import TOP

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.events import xids
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.readings import readings

HANG_S = 1.0
"""Time limit of tests that wait for it; the others have the usual one, since a busy machine is slow."""


@pytest.fixture
def session():
    with Session() as opened:
        yield opened


@pytest.fixture
def impatient():
    with Session(HANG_S) as opened:
        yield opened


def test_four_5090(nvml, session):
    result = facts(session)
    assert result["count"] == 4
    assert result["accelerator"] == "nvidia"
    assert result["driver_branch"] == "580"
    assert result["cuda_driver_version"] == "13.0"
    assert result["simulated"] is True
    assert "problem" not in result
    assert result["devices"][3] == {
        "index": 3,
        "name": "NVIDIA GeForce RTX 5090",
        "uuid": "GPU-5eed0000-0000-4000-8000-000000000003",
        "vbios": "98.02.2E.00.AB",
        "memory_mib": 32607,
        "compute_capability": "12.0",
        "family": "blackwell",
        "pcie": {"bus_id": "00000000:71:00.0", "generation_max": 5, "width_max": 16},
    }


def test_what_a_card_has_not_is_absent(nvml, session):
    nvml.profile("h200")
    card = facts(session)["devices"][0]
    assert (card["ecc"], card["mig"], card["serial"]) == ("enabled", "disabled", "1652323012345")
    nvml.profile("4x5090")
    assert not {"ecc", "mig", "serial"} & set(facts(session)["devices"][0])


def test_eight_of_three_kinds(nvml, session):
    nvml.profile("8 mixed")
    assert {entry["family"] for entry in facts(session)["devices"]} == {"blackwell", "ada-lovelace", "hopper"}


def test_a_driver_without_a_gpu(nvml, session):
    nvml.profile("none")
    result = facts(session)
    assert (result["count"], result["accelerator"], result["problem_kind"]) == (0, "cpu", "no gpu")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (9, "no driver", "modprobe nvidia"),
        (18, "version mismatch", "reboot"),
        (4, "not permitted", "as root"),
        (13, "function not found", "branch 396"),
        (15, "gpu lost", "cold boot"),
        (999, "unknown", "journalctl"),
    ],
)
def test_nvml_does_not_open(nvml, session, code, kind, words):
    nvml.set(init_error=code)
    result = facts(session)
    assert result["problem_kind"] == kind
    assert words in result["problem"]
    assert "\n" not in result["problem"]
    nvml.set(init_error=0)
    assert facts(session)["count"] == 4


def test_an_error_that_comes_after_opening(nvml, session):
    assert session.count() == 4
    nvml.set(error={"nvmlSystemGetDriverVersion": 18})
    assert facts(session)["problem_kind"] == "version mismatch"


@pytest.mark.parametrize("fault", [{"error": 15}, {"lost_after": 5}, {"handle_error": 15}])
def test_a_lost_gpu_does_not_hide_the_others(nvml, fault):
    nvml.gpu(2, **fault)
    with Session() as session:
        now = readings(session)
        assert now[2]["kind"] in ("gpu lost", "no handle")
        assert now[2]["problem"].startswith("GPU 2: ")
        assert [entry["power_w"] for entry in now if "problem" not in entry] == [24.1, 24.1, 24.1]
        result = facts(session)
    assert (result["count"], result["accelerator"]) == (4, "nvidia")
    assert "GPU 2" in result["problem"]


def test_a_gpu_that_comes_back_is_read_again(nvml, session):
    nvml.gpu(1, error=16)
    assert readings(session)[1]["kind"] == "reset required"
    nvml.gpu(1, error=0)
    assert "problem" not in readings(session)[1]


def test_one_function_that_fails_leaves_the_rest(nvml, session):
    nvml.gpu(0, error={"nvmlDeviceGetPowerUsage": 999, "nvmlDeviceGetFanSpeed_v2": 4})
    now = readings(session)[0]
    assert now["errors"] == {"nvmlDeviceGetPowerUsage": "unknown error"}
    assert "power_w" not in now
    assert "fan_percent" not in now
    assert now["temperature_c"] == 38


def test_an_old_driver_without_newer_functions(nvml_old, session):
    nvml_old.gpu(0, throttle=0x48)
    now = readings(session)
    assert now[0]["throttle"] == ["hw_slowdown", "hw_thermal_slowdown"]
    assert now[0]["memory_used_mib"] == 958  # with what the driver keeps for itself
    assert "errors" not in now[0]
    assert facts(session)["count"] == 4


def test_a_name_that_is_no_text(nvml, session):
    text = nvml.file.read_bytes().replace(b"gpu.0.name=NVIDIA", b"gpu.0.name=\xff\xfe")
    nvml.file.with_suffix(".raw").write_bytes(text)
    nvml.file.with_suffix(".raw").replace(nvml.file)
    card = facts(session)["devices"][0]
    assert "name" not in card
    assert card["errors"] == {"nvmlDeviceGetName": "the answer is no text"}


def test_a_name_that_does_not_fit(nvml, session):
    nvml.gpu(0, name="x" * 200)
    assert "insufficient size" in facts(session)["devices"][0]["errors"]["nvmlDeviceGetName"]


def test_a_hang_costs_its_time_limit_once(nvml, impatient, monkeypatch):
    asked = []
    honest = Session._answer
    monkeypatch.setattr(Session, "_answer", lambda self, request: asked.append(request[1]) or honest(self, request))
    nvml.gpu(2, hang={"nvmlDeviceGetPowerUsage": 1})
    now = readings(impatient)
    assert now[2]["kind"] == "hang"
    assert "nvmlDeviceGetPowerUsage on GPU 2 gave no answer within 1 s" in now[2]["problem"]
    assert now[3]["power_w"] == 24.1
    assert readings(impatient)[2]["kind"] == "hang"
    assert asked.count(2) == 1
    assert asked.count(3) == 2


def test_a_hang_at_the_start(nvml, impatient):
    nvml.set(hang={"nvmlInitWithFlags": 1})
    assert facts(impatient)["problem_kind"] == "hang"


def test_a_library_that_crashes(nvml, session):
    nvml.set(crash={"nvmlDeviceGetName": 1})
    result = facts(session)
    assert [entry["kind"] for entry in result["devices"]] == ["crash"] * 4
    assert "signal 11" in result["problem"]


def test_no_child_is_left(nvml):
    with Session(HANG_S) as session:
        nvml.gpu(0, hang={"nvmlDeviceGetName": 1})
        facts(session)
        pid = session._pid
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_a_session_begun_opens_nvml_while_the_caller_does_something_else(nvml, session):
    session.begin()
    pid = session._pid
    until = time.monotonic() + 10
    while not session._call().startswith("nvmlDeviceGetCount") and time.monotonic() < until:
        time.sleep(0.01)
    # nothing was asked yet, and NVML is open
    assert session._call().startswith("nvmlDeviceGetCount")
    assert facts(session)["count"] == 4
    assert session._pid == pid


def test_the_first_question_of_a_begun_session_reports_the_error(nvml, impatient):
    nvml.set(error={"nvmlInitWithFlags": 9})
    impatient.begin()
    assert facts(impatient)["problem_kind"] == "no driver"
    nvml.set(error={"nvmlInitWithFlags": 0}, hang={"nvmlInitWithFlags": 1})
    impatient.close()
    impatient.begin()
    assert facts(impatient)["problem_kind"] == "hang"


def test_a_session_begun_and_never_asked_leaves_no_child(nvml):
    session = Session()
    session.begin()
    pid = session._pid
    del session
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


GRAIN = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("gpu_grain", sys.argv[1])
grain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(grain)
print(json.dumps([grain._SESSION is not None, grain.gpu()["gpu"], grain.gpu()["gpu"]]))
"""


def test_the_grain_opens_nvml_when_it_is_loaded(nvml):
    environment = os.environ | nvml.environment | {"PYTHONPATH": str(TOP)}
    command = [sys.executable, "-c", GRAIN, TOP / "_grains/gpu.py"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    begun, once, again = json.loads(ran.stdout)
    assert begun
    assert once["count"] == 4
    assert again == once


def test_xids_are_reported_once(nvml, session):
    nvml.set(event={0: "1 8 13"})
    assert xids(session) == []  # from before we listened
    nvml.set(event={1: "2 8 79", 2: "0 8 63", 3: "0 1 5"})
    told = xids(session)
    assert [(entry["index"], entry["xid"], entry["weight"]) for entry in told] == [(2, 79, "fault"), (0, 63, "info")]
    assert "fallen off the bus" in told[0]["means"]
    assert xids(session) == []


BROKEN = """
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.nvml.session import Session
import sys
with Session() as session:
    print(facts(session).get("problem_kind"), "pynvml" in sys.modules)
"""


@pytest.mark.parametrize(("content", "kind"), [(None, "no library"), (b"no library at all", "broken library")])
def test_without_a_library_that_loads(tmp_path, content, kind):
    if content:
        (tmp_path / "libnvidia-ml.so.1").write_bytes(content)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(TOP)}
    ran = subprocess.run([sys.executable, "-c", BROKEN], env=environment, capture_output=True, text=True, check=True)
    if kind == "no library" and "no library" not in ran.stdout:
        pytest.skip("this machine has NVIDIA's driver")
    assert ran.stdout.strip() == f"{kind} False"
