"""The commands of the suites, and the readings that are taken while they run."""

import shlex
import sys

import pytest

from vault_cube.bench.run import rendezvous, sensors, suites
from vault_cube.bench.run.hardware import Hardware
from vault_cube.bench.run.measure import Run, measure
from vault_cube.errors import VaultCubeError

GPUS = [
    {"index": 0, "name": "a card", "uuid": "GPU-a", "cpus": "0-15"},
    {"index": 1, "name": "a card", "uuid": "GPU-b", "cpus": "16-31"},
]


def plan(settings, suite, gpus, tmp_path):
    python = tmp_path / "python"
    return suites.plan(suite, python, settings, settings.benchmark.quick, gpus=gpus)


@pytest.mark.parametrize("suite", ["matmul", "copies", "all_reduce", "ddp", "tensorflow", "vllm"])
def test_cuda_numbers_the_gpus_as_nvml_does(settings, tmp_path, suite):
    assert plan(settings, suite, GPUS, tmp_path).environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert "CUDA_VISIBLE_DEVICES" not in plan(settings, suite, [], tmp_path).environment


def test_gpus_without_a_uuid_keep_cuda_s_numbers(settings, tmp_path):
    gpus = [GPUS[0], {"index": 1}]
    assert "CUDA_VISIBLE_DEVICES" not in plan(settings, "matmul", gpus, tmp_path).environment


@pytest.mark.parametrize(
    ("suite", "gpus", "workers"),
    [
        ("ddp", GPUS, "2"),
        ("ddp", [], "2"),
        ("all_reduce", [], "2"),
        ("all_reduce", GPUS * 2, "4"),
        # a CPU has one memory
        ("copies", [], "1"),
        ("copies", GPUS, "2"),
    ],
)
def test_there_is_a_worker_per_gpu(settings, tmp_path, suite, gpus, workers):
    command = plan(settings, suite, gpus, tmp_path).command
    assert command[command.index("--nproc-per-node") + 1] == workers


def test_copies_know_the_processors_near_each_gpu(settings, tmp_path):
    command = plan(settings, "copies", GPUS, tmp_path).command
    assert command[command.index("--near") + 1] == "0-15;16-31"


def test_vllm_gets_the_loads_of_the_pillar(settings, tmp_path):
    command = plan(settings, "vllm", GPUS, tmp_path).command
    rates = command[command.index("--rates") + 1 : command.index("--tensor-parallel")]
    assert rates == ["1", "4", "16"]
    assert command[command.index("--gpus") + 1] == "2"
    on_a_cpu = plan(settings, "vllm", [], tmp_path).command
    assert on_a_cpu[on_a_cpu.index("--rates") + 1 : on_a_cpu.index("--tensor-parallel")] == ["1"]
    assert "--gpus" not in on_a_cpu


def test_every_suite_of_the_pillar_has_an_environment_and_time_limits(settings):
    benchmark = settings.benchmark
    for suite in benchmark.suites:
        assert suite in benchmark.environments
        assert suite in benchmark.full.limits_s
        assert suite in benchmark.quick.limits_s


def summarised(readings):
    """Return the summary of readings: phase, seconds since its begin, fields of `cuda:0`."""
    sampler = sensors.Sampler(dict, 1.0)
    for phase, since, fields in readings:
        sampler.add(phase, since, {"cuda:0": fields})
    return sampler.summary()


def test_readings_are_summarised_by_phase_without_its_first_second():
    summary = summarised(
        [
            ("a", 0.5, {"power_w": 100.0, "utilisation": 0.0}),
            ("a", 1.5, {"power_w": 300.0, "utilisation": 1.0}),
            ("", 0.2, {"power_w": 50.0}),
            ("b", 1.2, {"power_w": 200.0, "throttle": ["sw_power_cap"]}),
        ]
    )
    assert set(summary) == {"a", "b"}
    assert summary["a"]["cuda:0"]["power_w"]["mean"] == 300.0
    assert summary["a"]["cuda:0"]["utilisation"]["mean"] == 1.0
    assert summary["b"]["cuda:0"]["throttle"] == {"sw_power_cap": 1.0}


def test_a_short_phase_has_readings_but_no_utilisation():
    summary = summarised([("a", 0.3, {"power_w": 100.0, "utilisation": 0.0})])
    assert summary["a"]["cuda:0"]["power_w"]["mean"] == 100.0
    assert "utilisation" not in summary["a"]["cuda:0"]


@pytest.fixture
def together(settings):
    """This machine and itself: loopback is a network too."""
    return rendezvous.asked(settings.benchmark.together, 2, "127.0.0.1", ["ddp"])


def option(command, name):
    return command[command.index(name) + 1]


def test_boxes_meet_where_the_rendezvous_is(settings, tmp_path, together):
    command = suites.plan(
        "ddp", tmp_path / "python", settings, settings.benchmark.quick, gpus=GPUS, together=together
    ).command
    assert option(command, "--nnodes") == "2"
    assert option(command, "--rdzv-endpoint") == f"127.0.0.1:{settings.benchmark.together.port}"
    assert "is_host=1" in option(command, "--rdzv-conf")
    assert option(command, "--rdzv-id") == "vault-cube-nvidia"
    assert option(command, "--nproc-per-node") == "2"


def test_the_other_boxes_come_to_the_first_one(settings, tmp_path, together):
    other = together._replace(own="127.0.0.9")
    command = suites.plan(
        "ddp", tmp_path / "python", settings, settings.benchmark.quick, gpus=[], together=other
    ).command
    assert "is_host=0" in option(command, "--rdzv-conf")
    assert option(command, "--local-addr") == "127.0.0.9"
    # a box with GPUs would wait for NCCL, one without for gloo
    assert option(command, "--rdzv-id") == "vault-cube-cpu"


def test_the_data_takes_the_same_network_as_the_rendezvous(together):
    assert together.interface == "lo"
    assert together.environment == {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "=lo"}


def test_one_box_needs_no_other_interface_than_loopback(settings, tmp_path):
    alone = plan(settings, "ddp", [], tmp_path)
    assert option(alone.command, "--nnodes") == "1"
    assert alone.environment["GLOO_SOCKET_IFNAME"] == "lo"


WRONG = {
    "no rendezvous": ((2, None, ["ddp"]), "belong together"),
    "no number of boxes": ((None, "127.0.0.1", ["ddp"]), "belong together"),
    "one box": ((1, "127.0.0.1", ["ddp"]), "from 2 to"),
    "no number": (("two", "127.0.0.1", ["ddp"]), "from 2 to"),
    "yes": ((True, "127.0.0.1", ["ddp"]), "from 2 to"),
    "a million": ((1_000_000, "127.0.0.1", ["ddp"]), "from 2 to"),
    "all suites": ((2, "127.0.0.1", []), "suite=ddp"),
    "another suite": ((2, "127.0.0.1", ["matmul"]), "suite=ddp"),
    "two suites": ((2, "127.0.0.1", ["ddp", "matmul"]), "suite=ddp"),
    "no such name": ((2, "no-such-box.invalid", ["ddp"]), "no IPv4 address"),
    "an IPv6 address": ((2, "::1", ["ddp"]), "no IPv4 address"),
    "a name that is too long": ((2, "a" * 80, ["ddp"]), "no IPv4 address"),
    "a broadcast address": ((2, "255.255.255.255", ["ddp"]), "check this box's network"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_rendezvous_is_one_line(settings, case):
    arguments, message = WRONG[case]
    with pytest.raises(VaultCubeError, match=message) as caught:
        rendezvous.asked(settings.benchmark.together, *arguments)
    assert "\n" not in str(caught.value)


def test_a_benchmark_of_one_box_has_no_rendezvous(settings):
    assert rendezvous.asked(settings.benchmark.together, None, None, []) is None


def test_an_address_without_an_interface():
    with pytest.raises(VaultCubeError, match="second address"):
        rendezvous.interface_of("127.0.0.9")


STARTED = "import sys; sys.stderr.write('@phase transformer alone\\n'); sys.exit('ValueError: x')"


@pytest.mark.parametrize(
    ("program", "told"), [("import sys; sys.exit('RuntimeError: throwTimeoutError')", True), (STARTED, False)]
)
def test_boxes_that_did_not_meet_are_told_what_to_do(settings, together, tmp_path, program, told):
    """The stand-in for the environment's Python ignores its arguments."""
    python = tmp_path / "pytorch/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c {shlex.quote(program)}\n")
    python.chmod(0o755)
    frameworks = settings.frameworks.model_copy(update={"folder": str(tmp_path)})
    run = Run(
        settings.model_copy(update={"frameworks": frameworks}), Hardware(), lambda _: None, True, together=together
    )
    outcome = measure("ddp", run, sensors.Sampler(dict, 1.0))
    assert outcome.status == "failed"
    assert ("run the same command on each of them" in outcome.reason) == told
    assert "Error" in outcome.reason


def test_several_boxes_measure_all_rounds_in_one(settings, together):
    alone = Run(settings, Hardware(), print, quick=True)
    several = Run(settings, Hardware(), print, quick=True, together=together)
    assert several.effort.rounds == 1
    assert several.effort.repeats == alone.effort.rounds * alone.effort.repeats
    assert several.effort.limits_s["ddp"] > alone.effort.rounds * alone.effort.limits_s["ddp"]
