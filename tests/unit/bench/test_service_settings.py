"""vLLM runs without a compiler, both as a service and in the benchmark."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from copied import TOP, chosen, merged

from vault_cube.bench.run import measure, process
from vault_cube.bench.run.hardware import Hardware
from vault_cube.settings import check

WITH_VLLM = ("debian-12", "debian-13-nvidia", "ubuntu-24.04")


@pytest.mark.parametrize("target", WITH_VLLM)
def test_flashinfer_s_sampler_is_off(target):
    vllm = check(merged(*chosen(target))).frameworks.vllm
    assert vllm.environment
    assert vllm.settings["VLLM_USE_FLASHINFER_SAMPLER"] == "0"


def test_the_service_has_the_settings_and_no_path_to_nvcc():
    unit = (TOP / "salt/frameworks/files/vllm.service").read_text()
    assert "vllm.settings | dictsort" in unit
    # with nvcc on its PATH, FlashInfer would compile other kernels besides the sampler
    assert "PATH=" not in unit
    assert "CUDA_HOME" not in unit


@pytest.mark.parametrize(("suite", "expected"), [("vllm", True), ("matmul", False), ("tensorflow", False)])
@pytest.mark.parametrize("target", WITH_VLLM)
def test_the_benchmark_runs_vllm_with_the_service_s_settings(monkeypatch, tmp_path, target, suite, expected):
    settings = check(merged(*chosen(target), {"frameworks": {"folder": str(tmp_path)}}))
    python = tmp_path / settings.benchmark.environments[suite] / "bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    variables = {}

    def run(command, environment, **_):
        variables.update(environment)
        return process.Ended(None, "error", "not run", 0.0, 1)

    monkeypatch.setattr(process, "run", run)
    measure.measure(suite, measure.Run(settings, Hardware(), print, quick=True), nullcontext())
    wanted = settings.frameworks.vllm.settings
    assert (wanted.items() <= variables.items()) is expected
    assert Path(variables["HOME"]).name.startswith("vault-cube-bench-")
