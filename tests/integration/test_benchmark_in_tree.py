"""`make benchmark`: gpu.benchmark in the tree of the built image, with two CPU workers; and how it fails.

Needs the layers in the cache (`make image`) and root. Takes minutes, because nothing is simulated.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from base_tree import built, chosen_workspace
from copied import chosen, merged

from vault_cube.bench.judge import result

TOP = Path(__file__).parents[2]
TARGET = os.environ.get("VAULT_CUBE_TARGET", "debian-12")
SALT_CALL = f"{Path(sys.executable).with_name('salt-call')} --out=json"
SUITES = ("matmul", "copies", "all_reduce", "ddp", "tensorflow", "vllm")
RESULTS = TOP / "build" / TARGET / "benchmarks"
ENVIRONMENTS = set(merged(*chosen(TARGET))["frameworks"]["environments"])
pytestmark = [
    pytest.mark.image,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root"),
    pytest.mark.skipif(
        not {"pytorch", "tensorflow", "vllm"} <= ENVIRONMENTS,
        reason=f"{TARGET} has only the environments {ENVIRONMENTS}",
    ),
]


def salt(*words):
    """Run the checkout's salt-call; return exit status, result and stderr."""
    return run(f"{SALT_CALL} --retcode-passthrough", *words, f"target={TARGET}")


def run(command, *words):
    """Run a command that prints Salt's JSON; return exit status, result and stderr."""
    done = subprocess.run([*command.split(), *words], cwd=TOP, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout[done.stdout.index("{") :])["local"], done.stderr


def last():
    return result.load(max(RESULTS.glob("benchmark-*.json")))


def left():
    """Return the command lines of benchmark processes that still run, on the whole machine, namespaces included."""
    running = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "/opt/vault-cube/checkout/workloads/" in line:
            running.append(line)
    return running


@pytest.fixture(scope="module", autouse=True)
def layers():
    """Wait for the layers; a build that runs beside the tests may not have finished them."""
    built(chosen_workspace(TARGET))


@pytest.fixture(autouse=True)
def no_orphans():
    yield
    until = time.monotonic() + 10
    while left() and time.monotonic() < until:
        time.sleep(0.2)
    assert not left()


@pytest.fixture(scope="module")
def ran():
    """Run `make benchmark`; return its result, its stderr, and the seconds it took."""
    began = time.monotonic()
    status, answer, progress = run("make --silent benchmark", f"TARGET={TARGET}", f"SALT_CALL={SALT_CALL}")
    assert isinstance(answer, dict), answer
    assert answer["benchmark"]["suites"] == dict.fromkeys(SUITES, "measured"), progress
    # the speed of the CPU does not matter here; the exit status must match the verdict
    verdict = answer["benchmark"]["verdict"]
    assert verdict in ("ok", "uncertain", "fault"), answer
    assert bool(status) == (verdict != "ok"), answer
    return answer, progress, time.monotonic() - began


def test_two_workers_trained_over_gloo(ran):
    ddp = last().suites["ddp"]
    assert (ddp.workload["backend"], ddp.workload["devices"], ddp.device) == ("gloo", 2, "cpu")
    for model in ("transformer", "resnet"):
        alone = [metric.samples for metric in ddp.of("training alone", model)]
        assert len(alone) == 2, "each worker is measured alone"
        fastest = [max(repeat) for repeat in zip(*alone, strict=True)]
        weak, concurrent = (ddp.single(f"training {kind}", model).samples for kind in ("weak", "concurrent"))
        shared = ddp.single("efficiency shared", model).samples
        efficiencies = ddp.single("efficiency", model).samples
        for number, efficiency in enumerate(efficiencies):
            assert efficiency == pytest.approx(weak[number] / (2 * fastest[number]))
            # communication costs time: an efficiency that is always 100 %, as in the first implementation, would fail
            assert efficiency == pytest.approx(shared[number] * weak[number] / concurrent[number])
        assert len(set(efficiencies)) > 1


def test_two_workers_reduced_the_right_sums(ran):
    reduced = last().suites["all_reduce"]
    assert reduced.workload["backend"] == "gloo"
    assert [metric.subject for metric in reduced.of("all reduce")] == ["32 KiB", "1 MiB", "32 MiB"]
    assert all(check.compared > 0 and check.wrong == 0 for check in reduced.checks)
    assert any(verdict.check == "data" and verdict.status == "ok" for verdict in last().verdicts)


def test_vllm_served_the_requested_tokens(ran):
    vllm = last().suites["vllm"]
    work = vllm.workload
    assert work["weights"] == "random"
    # the duration of an answer is the time to its first token plus the gaps between the other tokens
    for number, rate in enumerate(vllm.single("output", "one request").samples):
        first, gap = (vllm.single(latency, "one request").samples[number] / 1e3 for latency in ("ttft", "tpot"))
        assert work["output_tokens"] / rate == pytest.approx(first + (work["output_tokens"] - 1) * gap, rel=0.25)
    for latency in ("ttft", "tpot", "itl"):
        assert vllm.single(f"{latency} p99", "saturated").median >= vllm.single(latency, "saturated").median
    # vLLM's own benchmark measured the same server
    assert work["bench_serve"].get("output_throughput", 0) > 0, work["bench_serve"]


def test_tensorflow_trained_on_two_replicas(ran):
    tensorflow = last().suites["tensorflow"]
    assert tensorflow.workload["devices"] == 2
    assert tensorflow.versions["tensorflow"]
    assert len(tensorflow.of("training alone")) == 2
    assert len(tensorflow.single("efficiency").samples) >= 5


def test_every_metric_has_samples_and_an_interval(ran):
    finished = last()
    assert finished.machine.simulated is False
    assert finished.machine.image["target"] == TARGET
    for suite in finished.suites.values():
        assert any(suite.versions.values())
        for metric in suite.metrics:
            assert len(metric.samples) >= 5, metric.label
            assert metric.low <= metric.median <= metric.high, metric.label
            assert min(metric.samples) > 0, metric.label


def test_the_grain_shows_the_result(ran):
    answer, _, lasted_s = ran
    grain = dict(answer["grain"]["gpu_benchmark"])
    assert 0 <= grain.pop("age_s") <= lasted_s
    assert grain == {key: value for key, value in answer["benchmark"].items() if key != "notes"}
    for name in ("ddp: efficiency transformer", "tensorflow: efficiency dense", "vllm: output one request cpu"):
        number = grain["numbers"][name]
        assert number["low"] <= number["median"] <= number["high"]


def test_it_prints_progress_and_writes_a_report(ran):
    _, progress, _ = ran
    assert "[4/12] ddp, round 1" in progress
    assert "transformer, repeat 3 of 3" in progress
    assert "[12/12] vllm, round 2: measured in" in progress
    assert "tokens/s" in (RESULTS / "report.html").read_text()
    assert (RESULTS / "report.md").is_file()


BENCHMARK = "salt-call --local --retcode-passthrough --log-level=quiet --out=json gpu.benchmark ddp quick=True"
# anchored, because the shell's own command line contains these words as well
WORKER = "'^[^ ]*python[^ ]* -u .*workloads/ddp.py'"
WHEN_BOTH_TRAIN = f"until [ $(pgrep -fc {WORKER}) -ge 2 ]; do sleep 0.2; done; sleep 5"


def test_a_killed_worker_is_a_fault():
    kill = f"{WHEN_BOTH_TRAIN}; kill -9 $(pgrep -fn {WORKER})"
    status, _, _ = salt("image.enter", f"({kill}) & {BENCHMARK} > /dev/null")
    assert status != 0
    assert last().suites["ddp"].kind == "killed"
    assert "killed by signal 9" in last().suites["ddp"].reason
    assert last().verdict == "fault"


def test_ctrl_c_through_salt_saves_an_interrupted_result():
    interrupt = f"{WHEN_BOTH_TRAIN}; kill -INT $(pgrep -fo '^[^ ]*python[^ ]* .*gpu.benchmark ddp')"
    status, _, _ = salt("image.enter", f"({interrupt}) & {BENCHMARK} > /dev/null")
    assert status != 0
    assert last().suites["ddp"].status == "interrupted"
    assert last().verdict == "fault"


# makes one value of the 10th product wrong by 0.1, as a hardware error would
PLANT = """
from pathlib import Path
burn = Path("/opt/vault-cube/checkout/workloads/burn.py")
honest = "    torch.mm(a, b, out=out)\\n"
text = burn.read_text()
assert text.count(honest) == 1
wrong = "    TURNS.append(1)\\n    if len(TURNS) == 10:\\n        out[0, 5] += 0.1\\n"
burn.write_text(text.replace(honest, honest + wrong).replace("def multiply", "TURNS = []\\n\\n\\ndef multiply"))
"""
# little memory, so that a round of the buffers takes one second
FEW_BUFFERS = "echo 'benchmark: {stress: {memory: {cpu: 0.001}}}' > /opt/vault-cube/checkout/pillar/local.sls"


@pytest.mark.parametrize(("plant", "expected", "wrong"), [("", "ok", 0), (PLANT, "fault", 1)])
def test_a_burn_in_detects_one_wrong_value_among_millions(plant, expected, wrong):
    burn = "salt-call --local --retcode-passthrough --log-level=quiet gpu.stress duration=30s"
    status, _, _ = salt("image.enter", f"{FEW_BUFFERS}; python3 -c {shlex.quote(plant)}; {burn} >&2")
    verdict = json.loads(max(RESULTS.glob("stress-*/verdict.json")).read_text())
    assert (verdict["verdict"], verdict["work"]["cpu"]["wrong"]) == (expected, wrong), verdict["problems"]
    assert verdict["work"]["cpu"]["products"] > 15
    assert bool(status) == bool(wrong)
