"""Rounds: each suite runs once, then all of them again, so that a result shows how a machine drifts within minutes."""

import signal
import time

import pytest

from vault_cube.bench.run import runner
from vault_cube.bench.run.hardware import Hardware
from vault_cube.settings import PillarError

# a machine that is slower from the second round on; {late} runs in these rounds
DRIFTS = """
import os, pathlib, time, workload
turns = pathlib.Path(__file__).with_suffix(".turns")
def main():
    number = int(turns.read_text()) if turns.exists() else 0
    turns.write_text(str(number + 1))
    workload.say("phase", "steady")
    if number:
        {late}
    base = 0.5 if number else 1.0
    return {{"workload": {{}}, "versions": {{}}, "device": "cpu",
            "metrics": [workload.metric("rate", "TFLOP/s", [base, base + 0.01, base + 0.02])]}}
workload.run(main)
"""


def measured(bench, *suites, say=lambda _: None):
    return runner.benchmark(bench.settings, Hardware(), say, chosen=suites, quick=True, workloads=bench.workloads)


def test_the_interval_covers_both_rounds(bench):
    bench.workload("matmul", DRIFTS.format(late="pass"))
    rate = measured(bench, "matmul").suites["matmul"].single("rate")
    assert rate.samples == [1.0, 1.01, 1.02, 0.5, 0.51, 0.52]
    # the interval of one round would be 0.02 wide
    assert rate.low <= 0.51
    assert rate.high >= 1.01
    assert rate.noisy


def test_all_suites_run_before_the_first_suite_runs_again(bench):
    for name in ("matmul", "tensorflow_mirrored"):
        bench.workload(name, DRIFTS.format(late="pass"))
    lines = []
    measured(bench, "matmul", "tensorflow", say=lines.append)
    assert [line.partition(": measured in")[0] for line in lines if ": measured in" in line] == [
        "[1/4] matmul, round 1",
        "[2/4] tensorflow, round 1",
        "[3/4] matmul, round 2",
        "[4/4] tensorflow, round 2",
    ]


def test_a_suite_that_fails_in_a_later_round_has_failed_and_does_not_run_again(bench):
    bench.pillar["benchmark"]["quick"] |= {"rounds": 3}
    bench.workload("matmul", DRIFTS.format(late="os.kill(os.getpid(), 9)"))
    lines = []
    result = measured(bench, "matmul", say=lines.append)
    assert (result.suites["matmul"].status, result.suites["matmul"].kind) == ("failed", "killed")
    assert result.verdict == "fault"
    assert sum(": failed in" in line for line in lines) == 1


def test_ctrl_c_in_a_later_round_keeps_the_other_suites(bench):
    bench.workload("matmul", DRIFTS.format(late="pass"))
    bench.workload("tensorflow_mirrored", DRIFTS.format(late="time.sleep(60)"))
    process = bench.start(chosen=["matmul", "tensorflow"])
    turns = bench.workloads / "tensorflow_mirrored.turns"
    until = time.monotonic() + 30
    while not (turns.exists() and turns.read_text() == "2") and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    result = bench.answer(process)
    assert result["suites"]["tensorflow"]["status"] == "interrupted"
    assert len(result["suites"]["matmul"]["metrics"][0]["samples"]) == 6
    assert result["verdict"] == "fault"


@pytest.mark.parametrize("effort", [{"rounds": 0}, {"rounds": 1, "repeats": 4}, {"rounds": 2, "repeats": 2}])
def test_too_few_samples_are_refused_before_anything_runs(bench, effort):
    bench.pillar["benchmark"]["quick"] |= effort
    with pytest.raises(PillarError, match="benchmark:quick"):
        _ = bench.settings
