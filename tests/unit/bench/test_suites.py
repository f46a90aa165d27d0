"""The commands of the suites, and the readings that are taken while they run."""

import pytest

from vault_cube.bench.run import sensors, suites

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
