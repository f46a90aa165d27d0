"""Whatever goes wrong while it measures: one clear verdict, and no orphan process (the fixture looks)."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from vault_cube.bench.run import runner
from vault_cube.bench.run.hardware import Hardware
from vault_cube.errors import VaultCubeError

# a grandchild in a session of its own, as frameworks make them, that would outlive everything
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


def test_what_goes_well_is_kept_and_published(bench):
    made = measured(bench, cache=bench.folder / "cache")
    assert made.suites["matmul"].status == "measured"
    assert made.suites["matmul"].metrics["matmul_float32"].median == 1.1
    kept = json.loads((bench.folder / "results" / f"{made.name}.json").read_text())
    assert kept["schema_version"] == 1
    assert kept["machine"]["simulated"] is False
    assert json.loads((bench.folder / "cache/gpu_benchmark.json").read_text())["suites"] == {"matmul": "measured"}


def test_a_workload_that_leaves_processes_behind(bench):
    bench.workload("matmul", BROOD + runner_text("time.sleep(0.5)"))
    assert measured(bench).suites["matmul"].status == "measured"


def runner_text(before):
    return f"""
def main():
    {before}
    return {{"workload": {{}}, "versions": {{}}, "device": "cpu",
            "metrics": {{"x": workload.metric("s", [1.0] * 5)}}}}
workload.run(main)
"""


def test_a_worker_killed_in_the_middle(bench):
    bench.workload("matmul", BROOD + runner_text("os.kill(os.getpid(), 9)"))
    made = measured(bench)
    assert made.suites["matmul"].kind == "killed"
    assert "signal 9" in made.suites["matmul"].reason
    assert made.verdict == "fault"
    assert [one.said for one in made.verdicts] == ["fault"]


def test_out_of_memory(bench):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29)); bytearray(1 << 30)"
    bench.workload("matmul", BROOD + runner_text(limit))
    made = measured(bench)
    assert made.suites["matmul"].kind == "out of memory"
    assert made.verdict == "fault"


@pytest.fixture
def small_cgroup():
    """A control group of 64 MiB, of either hierarchy."""
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
        pytest.skip("needs a control group with a memory controller")
    (group / limit).write_text(f"{64 << 20}")
    yield group
    until = time.monotonic() + 10
    while (group / "cgroup.procs").read_text() and time.monotonic() < until:
        time.sleep(0.1)
    group.rmdir()


def test_the_kernel_ends_a_workload_for_want_of_memory(bench, small_cgroup):
    join = f'open("{small_cgroup}/cgroup.procs", "w").write(str(os.getpid()))'
    bench.workload("matmul", BROOD + runner_text(f"{join}; held = [bytearray(1 << 20) for _ in range(512)]"))
    made = measured(bench)
    assert made.suites["matmul"].kind == "out of memory"
    assert "kernel" in made.suites["matmul"].reason


def test_a_hang(bench):
    bench.pillar["benchmark"]["quick"]["limits_s"]["matmul"] = 1
    bench.workload(
        "matmul",
        BROOD + runner_text("signal = __import__('signal'); signal.signal(15, signal.SIG_IGN); time.sleep(600)"),
    )
    made = measured(bench)
    assert made.suites["matmul"].kind == "hang"
    assert "limits_s" in made.suites["matmul"].reason
    assert made.suites["matmul"].seconds < 15


def test_a_missing_environment(bench):
    (bench.folder / "envs/pytorch/bin/python").unlink()
    made = measured(bench)
    assert made.suites["matmul"].kind == "missing"
    assert "state.apply frameworks" in made.suites["matmul"].reason
    assert made.verdict == "fault"


def test_an_environment_that_the_target_has_not_is_no_fault_and_no_proof(bench):
    del bench.pillar["frameworks"]["environments"]["pytorch"], bench.pillar["frameworks"]["checks"]["pytorch"]
    bench.pillar["frameworks"]["commands"] = {}
    made = measured(bench)
    assert made.suites["matmul"].status == "not measured"
    assert made.verdict == "not judged"
    assert "no environment pytorch" in made.notes[0]


def test_a_package_that_is_not_there(bench):
    bench.workload("matmul", BROOD + runner_text("import no_such_framework"))
    assert measured(bench).suites["matmul"].kind == "missing"


def test_a_workload_that_dies_without_a_word(bench):
    bench.workload("matmul", "import os; os._exit(3)")
    assert measured(bench).suites["matmul"].reason == "status 3: it said nothing"


def test_two_at_once(bench):
    bench.workload("matmul", BROOD + runner_text("time.sleep(5)"))
    first = bench.start(chosen=["matmul"])
    bench.until_running(2)
    with pytest.raises(VaultCubeError, match="two at once"):
        measured(bench)
    assert bench.answer(first)["suites"]["matmul"]["status"] == "measured"


def test_ctrl_c(bench):
    bench.workload("matmul", BROOD + runner_text("time.sleep(600)"))
    process = bench.start()
    bench.until_running(2)
    process.send_signal(signal.SIGINT)
    made = bench.answer(process)
    assert made["suites"]["matmul"]["status"] == "interrupted"
    assert made["verdict"] == "fault"
    assert any("ddp: not reached" in note for note in made["notes"])


def test_the_runner_itself_is_killed(bench):
    bench.workload("matmul", BROOD + runner_text("time.sleep(600)"))
    process = bench.start()
    bench.until_running(2)
    process.kill()
    process.communicate()
    assert not bench.left()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_full_while_the_result_is_written(bench):
    results = bench.folder / "results"
    results.mkdir()
    fill = f'open("{results}/filler", "wb").write(bytes(5 << 20))'
    bench.workload(
        "matmul", "import os\nimport workload\n" + runner_text(f"exec('''try:\\n {fill}\\nexcept OSError: pass''')")
    )
    # the listing is taken inside: the mount is this process's alone, and gone with it
    inside = f'mount -t tmpfs -o size=4864k none "{results}" && "$@"; ls -A "{results}" >&2'
    process = bench.start(prefix=["unshare", "-m", "sh", "-c", inside, "sh"], chosen=["matmul"])
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert "No space left on device; the result was not kept" in json.loads(out.splitlines()[-1])["error"]
    assert err.splitlines()[-2:] == [".lock", "filler"]
    assert not (bench.folder / "cache/gpu_benchmark.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_is_full_before(bench):
    results = bench.folder / "results"
    results.mkdir()
    inside = f'mount -t tmpfs -o size=1m none "{results}" && exec "$@"'
    process = bench.start(prefix=["unshare", "-m", "sh", "-c", inside, "sh"], chosen=["matmul"])
    assert "make room" in bench.answer(process)["error"]


def test_a_gpu_that_is_lost_while_it_is_measured(bench, gpus):
    bench.workload("matmul", BROOD + runner_text("time.sleep(600)"))
    process = bench.start(environment=gpus.environment, chosen=["matmul"])
    bench.until_running(2)
    gpus.gpu(1, error=15)
    made = bench.answer(process)
    assert made["suites"]["matmul"]["kind"] == "gpu lost"
    assert made["suites"]["matmul"]["reason"] == "GPU 1: GPU is lost: it has fallen off the bus"
    assert made["machine"]["simulated"] is True
    assert made["verdict"] == "fault"


def test_a_driver_that_hangs_while_it_is_measured(bench, gpus):
    bench.workload("matmul", BROOD + runner_text("time.sleep(600)"))
    process = bench.start(environment=gpus.environment | {"BENCH_ANSWER_S": "3"}, chosen=["matmul"])
    bench.until_running(2)
    gpus.gpu(1, hang={"nvmlDeviceGetPowerUsage": 1})
    made = bench.answer(process)
    assert made["suites"]["matmul"]["kind"] == "gpu lost"
    assert "the driver hangs: nvmlDeviceGetPowerUsage on GPU 1" in made["suites"]["matmul"]["reason"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"utilisation": {"gpu": 80}}, "GPU 0 is 80% busy"),
        ({"throttle": 0x44}, "throttled by hw_thermal_slowdown"),
        ({"error": 15}, "GPU is lost"),
    ],
)
def test_a_gpu_that_is_not_fit_is_not_measured(bench, gpus, fields, said):
    gpus.every(**fields)
    answer = bench.answer(bench.start(environment=gpus.environment, chosen=["matmul"]))
    assert said in answer["error"]
    assert "force=True" in answer["error"]
    if "error" not in fields:
        forced = bench.answer(bench.start(environment=gpus.environment, chosen=["matmul"], force=True))
        assert forced["forced"] is True


def test_a_box_that_lost_its_gpus_does_not_pass_as_a_processor(bench):
    bench.pillar["target"]["accelerator"] = "nvidia"
    made = measured(bench)
    assert made.verdict == "fault"
    assert made.verdicts[0].why == "the target has nvidia, these numbers come from cpu"
