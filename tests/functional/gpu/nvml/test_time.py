"""What a driver that hangs costs, whatever the number of GPUs, and that no library is loaded in the caller.

Times are compared with limits that are far above the measured ones: benchmarks/gpu_cost.py measures.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from copied import TOP
from fake_box import Box

from vault_cube.gpu.nvml.session import GRAIN_S, Session
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.readings import readings

MARGIN_S = 5
"""for a machine that is busy with something else"""


def timed(call):
    began = time.monotonic()
    answer = call()
    return answer, time.monotonic() - began


@pytest.mark.parametrize("profile", ["4x5090", "16x5090"])
@pytest.mark.parametrize(
    "hang",
    [
        {"nvmlDeviceGetName": 1}, {"nvmlDeviceGetMemoryInfo_v2": 1}, {"nvmlInitWithFlags": 1},
        {"nvmlDeviceGetCount_v2": 1}, {"nvmlDeviceGetHandleByIndex_v2": 1}, {"nvmlSystemGetDriverVersion": 1},
    ],
    ids=lambda hang: next(iter(hang)),
)  # fmt: skip
def test_the_grain_of_a_driver_that_hangs(nvml, profile, hang):
    """Without parallel trials sixteen GPUs would take 16 times the limit."""
    nvml.profile(profile)
    for gpu in nvml.state["gpus"]:
        gpu["hang"] = dict(hang)
    nvml.set(hang=dict(hang))

    def grain():
        with Session(*GRAIN_S) as session:
            return facts(session)

    result, seconds = timed(grain)
    assert "hangs" in result["problem"]
    assert not [entry for entry in result["devices"] if "problem" not in entry]
    assert seconds < sum(GRAIN_S) + MARGIN_S


@pytest.mark.parametrize("hang", ["nvmlDeviceGetName", "nvmlDeviceGetCurrentClocksEventReasons"])
def test_health_of_sixteen_that_hang(nvml, tmp_path, hang):
    box = Box(nvml, tmp_path)
    box.be("16x5090")
    nvml.every(hang={hang: 1})
    result, seconds = timed(lambda: box.health(answer_s=2))
    assert {entry["status"] for entry in result["checks"] if entry["check"] == "answers"} == {"fault"}
    assert seconds < 2 + 2 + MARGIN_S


@pytest.mark.parametrize("hung", [[0], [3], [15], [0, 15], [2, 3, 4, 5], list(range(15))])
def test_those_that_answer_answer(nvml, hung):
    nvml.profile("16x5090")
    for index in hung:
        nvml.gpu(index, hang={"nvmlDeviceGetPowerUsage": 1})
    with Session(1.5) as session:
        now = readings(session, full=False)
        again = readings(session, full=False)
        generation = session.generation
        # a GPU that hung is not asked again, which would cost the child
        assert readings(session, full=False) == again
        assert session.generation == generation
    assert [entry["index"] for entry in now if "problem" in entry] == hung
    assert {entry["kind"] for entry in now if "problem" in entry} == {"hang"}
    assert [entry["power_w"] for entry in now if "problem" not in entry] == [24.1] * (16 - len(hung))
    assert [entry["index"] for entry in again if "problem" in entry] == hung


def test_a_driver_that_hangs_and_returns(nvml):
    nvml.during(0, 1.2, 1, hang={"nvmlDeviceGetPowerUsage": 1})
    nvml.begin()
    with Session(0.5, retry_s=0.5) as session:
        assert [entry.get("kind") for entry in readings(session, full=False)] == [None, "hang", None, None]
        time.sleep(1.5)
        assert [entry.get("kind") for entry in readings(session, full=False)] == [None] * 4


def test_a_hang_shorter_than_the_limit_costs_nothing_else(nvml):
    nvml.during(0, 0.5, 1, hang={"nvmlDeviceGetPowerUsage": 1})
    nvml.begin()
    with Session(10) as session:
        now = readings(session, full=False)
        assert [entry.get("power_w") for entry in now] == [24.1] * 4
        assert session.generation == 1


def test_children_that_hang_are_gone_with_the_session(nvml):
    nvml.every(hang={"nvmlDeviceGetName": 1})
    before = set(children())
    with Session(0.5, 0.3) as session:
        facts(session)
    assert set(children()) == before


def children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


HOSTILE = """
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void begin(void) { %s }
"""
GRAIN = """
import sys, time
sys.path.insert(0, "_grains")
began = time.monotonic()
import gpu
found = gpu.gpu()["gpu"]
maps = open("/proc/self/maps").read()
print(found["problem_kind"], found["count"], "libnvidia-ml" in maps, "pynvml" in sys.modules, sep="|")
sys.exit(time.monotonic() - began > 3 + 5)
"""


@pytest.mark.parametrize(
    ("body", "kind"), [("abort();", "crash"), ("for (;;) pause();", "hang"), ("_exit(3);", "crash")]
)
def test_a_library_that_ends_or_stops_who_loads_it(tmp_path, body, kind):
    source = tmp_path / "library.c"
    source.write_text(HOSTILE % body)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(TOP)}
    ran = subprocess.run(
        [sys.executable, "-c", GRAIN],
        cwd=TOP,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == f"{kind}|0|False|False"


def test_nothing_is_loaded_in_the_caller(nvml):
    environment = os.environ | nvml.environment | {"PYTHONPATH": str(TOP)}
    script = GRAIN.replace('found["problem_kind"]', 'found.get("problem_kind")')
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=TOP,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.strip() == "None|4|False|False"
