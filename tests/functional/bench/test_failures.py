"""Failures during a benchmark: each gives one clear verdict and leaves no orphan process (the fixture checks)."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from vault_cube.bench.run import runner
from vault_cube.bench.run.hardware import Hardware
from vault_cube.errors import VaultCubeError

# starts a grandchild in a session of its own, as frameworks do, which would outlive its parent
BROOD = """
import os, subprocess, sys, time, workload
if sys.argv[-1] == "grandchild":
    time.sleep(600)
subprocess.Popen([sys.executable, __file__, "grandchild"], start_new_session=True)
"""


def measured(bench, **arguments):
    return runner.benchmark(
        bench.settings,
        Hardware(),
        lambda _: None,
        chosen=["matmul"],
        quick=True,
        workloads=bench.workloads,
        **arguments,
    )


def test_a_successful_benchmark_is_saved_and_published(bench):
    result = measured(bench, cache=bench.folder / "cache")
    assert result.suites["matmul"].status == "measured"
    assert result.suites["matmul"].single("matmul", "float32").median == 1.1
    document = json.loads((bench.folder / "results" / f"{result.name}.json").read_text())
    assert document["schema_version"] == 2
    assert document["machine"]["simulated"] is False
    assert json.loads((bench.folder / "cache/gpu_benchmark.json").read_text())["suites"] == {"matmul": "measured"}


def test_processes_left_by_a_workload_are_killed(bench):
    bench.workload("matmul", BROOD + runner_text("time.sleep(0.5)"))
    assert measured(bench).suites["matmul"].status == "measured"


def runner_text(before):
    return f"""
def main():
    {before}
    return {{"workload": {{}}, "versions": {{}}, "device": "cpu",
            "metrics": [workload.metric("x", "s", [1.0] * 5)]}}
workload.run(main)
"""


def test_a_killed_worker_is_a_fault(bench):
    bench.workload("matmul", BROOD + runner_text("os.kill(os.getpid(), 9)"))
    result = measured(bench)
    assert result.suites["matmul"].kind == "killed"
    assert "signal 9" in result.suites["matmul"].reason
    assert result.verdict == "fault"
    assert [verdict.status for verdict in result.verdicts] == ["fault"]


def test_an_allocation_that_fails_is_out_of_memory(bench):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29)); bytearray(1 << 30)"
    bench.workload("matmul", BROOD + runner_text(limit))
    result = measured(bench)
    assert result.suites["matmul"].kind == "out of memory"
    assert result.verdict == "fault"


@pytest.fixture
def small_cgroup():
    """A cgroup with a limit of 64 MiB, version 1 or 2."""
    for root, limit in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        group = Path(root) / f"vault-cube-test-{os.getpid()}"
        if not (Path(root) / "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / limit).exists():
            break
        group.rmdir()
    else:
        pytest.skip("needs a cgroup with a memory controller")
    (group / limit).write_text(f"{64 << 20}")
    yield group
    until = time.monotonic() + 10
    while (group / "cgroup.procs").read_text() and time.monotonic() < until:
        time.sleep(0.1)
    group.rmdir()


def test_a_workload_killed_by_the_oom_killer_is_out_of_memory(bench, small_cgroup):
    join = f'open("{small_cgroup}/cgroup.procs", "w").write(str(os.getpid()))'
    bench.workload("matmul", BROOD + runner_text(f"{join}; blocks = [bytearray(1 << 20) for _ in range(512)]"))
    result = measured(bench)
    assert result.suites["matmul"].kind == "out of memory"
    assert "kernel" in result.suites["matmul"].reason


def test_a_workload_that_exceeds_its_time_limit_is_a_hang(bench):
    bench.pillar["benchmark"]["quick"]["limits_s"]["matmul"] = 1
    bench.workload(
        "matmul",
        BROOD + runner_text("signal = __import__('signal'); signal.signal(15, signal.SIG_IGN); time.sleep(600)"),
    )
    result = measured(bench)
    assert result.suites["matmul"].kind == "hang"
    assert "limits_s" in result.suites["matmul"].reason
    assert result.suites["matmul"].seconds < 600


def test_a_missing_environment_is_a_fault(bench):
    (bench.folder / "envs/pytorch/bin/python").unlink()
    result = measured(bench)
    assert result.suites["matmul"].kind == "missing"
    assert "state.apply frameworks" in result.suites["matmul"].reason
    assert result.verdict == "fault"


def test_a_suite_without_an_environment_in_the_target_is_not_applicable(bench):
    del bench.pillar["frameworks"]["environments"]["pytorch"], bench.pillar["frameworks"]["checks"]["pytorch"]
    bench.pillar["frameworks"]["commands"] = {}
    result = measured(bench)
    assert result.suites["matmul"].status == "not measured"
    assert result.verdict == "not applicable"
    assert "no environment pytorch" in result.notes[0]


def test_a_missing_package_has_the_kind_missing(bench):
    bench.workload("matmul", BROOD + runner_text("import no_such_framework"))
    assert measured(bench).suites["matmul"].kind == "missing"


def test_a_workload_that_fails_without_output(bench):
    bench.workload("matmul", "import os; os._exit(3)")
    assert measured(bench).suites["matmul"].reason == "status 3: no output on stderr"


def test_a_second_benchmark_at_the_same_time_is_refused(bench):
    bench.workload("matmul", BROOD + runner_text("time.sleep(5)"))
    first = bench.start(chosen=["matmul"])
    bench.until_running(2)
    with pytest.raises(VaultCubeError, match="two at once"):
        measured(bench)
    assert bench.answer(first)["suites"]["matmul"]["status"] == "measured"


def test_ctrl_c_is_recorded_as_interrupted(bench):
    bench.workload("matmul", BROOD + runner_text("time.sleep(600)"))
    process = bench.start()
    bench.until_running(2)
    process.send_signal(signal.SIGINT)
    result = bench.answer(process)
    assert result["suites"]["matmul"]["status"] == "interrupted"
    assert result["verdict"] == "fault"
    assert any("ddp: not reached" in note for note in result["notes"])


def test_a_killed_runner_leaves_no_processes(bench):
    bench.workload("matmul", BROOD + runner_text("time.sleep(600)"))
    process = bench.start()
    bench.until_running(2)
    process.kill()
    process.communicate()
    assert not bench.left()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_fills_up_during_the_benchmark(bench):
    results = bench.folder / "results"
    results.mkdir()
    fill = f'open("{results}/filler", "wb").write(bytes(5 << 20))'
    bench.workload(
        "matmul", "import os\nimport workload\n" + runner_text(f"exec('''try:\\n {fill}\\nexcept OSError: pass''')")
    )
    # list the folder inside: the mount exists only in this mount namespace
    inside = f'mount -t tmpfs -o size=4864k none "{results}" && "$@"; ls -A "{results}" >&2'
    process = bench.start(prefix=["unshare", "-m", "sh", "-c", inside, "sh"], chosen=["matmul"])
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert "No space left on device; the result was not saved" in json.loads(out.splitlines()[-1])["error"]
    assert err.splitlines()[-2:] == [".lock", "filler"]
    assert not (bench.folder / "cache/gpu_benchmark.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_refused_before_the_benchmark(bench):
    results = bench.folder / "results"
    results.mkdir()
    inside = f'mount -t tmpfs -o size=1m none "{results}" && exec "$@"'
    process = bench.start(prefix=["unshare", "-m", "sh", "-c", inside, "sh"], chosen=["matmul"])
    assert "free some space" in bench.answer(process)["error"]


def test_a_gpu_that_is_lost_during_the_benchmark(bench, gpus):
    bench.workload("matmul", BROOD + runner_text("time.sleep(600)"))
    process = bench.start(environment=gpus.environment, chosen=["matmul"])
    bench.until_running(2)
    gpus.gpu(1, error=15)
    result = bench.answer(process)
    assert result["suites"]["matmul"]["kind"] == "gpu lost"
    assert result["suites"]["matmul"]["reason"] == "GPU 1: GPU is lost: it has fallen off the bus"
    assert result["machine"]["simulated"] is True
    assert result["verdict"] == "fault"


def test_a_driver_that_hangs_during_the_benchmark(bench, gpus):
    bench.workload("matmul", BROOD + runner_text("time.sleep(600)"))
    process = bench.start(environment=gpus.environment | {"BENCH_ANSWER_S": "3"}, chosen=["matmul"])
    bench.until_running(2)
    gpus.gpu(1, hang={"nvmlDeviceGetPowerUsage": 1})
    result = bench.answer(process)
    assert result["suites"]["matmul"]["kind"] == "gpu lost"
    assert "the driver hangs: nvmlDeviceGetPowerUsage on GPU 1" in result["suites"]["matmul"]["reason"]


@pytest.mark.parametrize(("function", "code"), [("nvmlDeviceGetPowerUsage", 999), ("nvmlDeviceGetTotalEccErrors", 14)])
def test_a_function_of_nvml_that_fails_does_not_end_the_benchmark(bench, gpus, function, code):
    gpus.gpu(1, error={function: code})
    bench.workload("matmul", BROOD + runner_text("time.sleep(2.5)"))
    result = bench.answer(bench.start(environment=gpus.environment, chosen=["matmul"]))
    assert result["suites"]["matmul"]["status"] == "measured"


def test_a_gpu_that_does_not_answer_for_a_moment_does_not_end_the_benchmark(bench, gpus):
    bench.workload("matmul", BROOD + runner_text("time.sleep(3)"))
    process = bench.start(environment=gpus.environment, chosen=["matmul"])
    bench.until_running(2)
    gpus.gpu(1, error=999)
    time.sleep(0.7)
    gpus.gpu(1, error=None)
    assert bench.answer(process)["suites"]["matmul"]["status"] == "measured"


STUCK = {"utilisation": {"gpu": 100}, "performance_state": 8}


@pytest.mark.parametrize(
    ("fields", "busy"),
    [
        (STUCK, False),
        ({"utilisation": {"gpu": 4294967295}}, False),
        (STUCK | {"performance_state": 1}, True),
        (STUCK | {"compute_process": {0: f"1 {1 << 20}"}}, True),
        ({"memory": {"used": 29 << 30}}, True),
        ({"memory": {"used": 900 << 20}}, False),
    ],
)
def test_a_gpu_is_busy_by_load_or_memory_but_not_by_a_stuck_utilisation(bench, gpus, fields, busy):
    gpus.gpu(1, **fields)
    answer = bench.answer(bench.start(environment=gpus.environment, chosen=["matmul"]))
    assert ("error" in answer) is busy, answer
    if "memory" in fields and busy:
        assert "GPU 1: 29696 MiB of its memory are in use" in answer["error"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"utilisation": {"gpu": 80}}, "GPU 0 is 80% busy"),
        ({"throttle": 0x44}, "throttled by hw_thermal_slowdown"),
        ({"error": 15}, "GPU is lost"),
    ],
)
def test_a_busy_throttled_or_lost_gpu_is_not_measured(bench, gpus, fields, message):
    gpus.every(**fields)
    answer = bench.answer(bench.start(environment=gpus.environment, chosen=["matmul"]))
    assert message in answer["error"]
    assert "force=True" in answer["error"]
    if "error" not in fields:
        forced = bench.answer(bench.start(environment=gpus.environment, chosen=["matmul"], force=True))
        assert forced["forced"] is True


def test_a_gpu_box_with_missing_gpus_gets_a_fault(bench):
    bench.pillar["target"]["accelerator"] = "nvidia"
    result = measured(bench)
    assert result.verdict == "fault"
    assert result.verdicts[0].evidence == "the target requires nvidia, but cpu was measured"
