"""Settings of the vLLM service that packages of its environment require."""

import pytest
from copied import TOP

from vault_cube.image.locks import pylock

TARGETS = sorted(file.stem for file in (TOP / "pillar/targets").glob("*.sls"))


def compiles_its_sampler(target, vllm):
    """Return whether vLLM's environment has FlashInfer, whose sampler is compiled at start by an nvcc on PATH."""
    if vllm["environment"] is None:
        return False
    locked = pylock.read(TOP / f"locks/{target}/python-{vllm['environment']}.lock")
    return any(wheel.name == "flashinfer-python" for wheel in locked)


@pytest.mark.parametrize("target", TARGETS)
def test_vllm_samples_without_a_compiler_on_path(pillar, target):
    vllm = pillar(target)["frameworks"]["vllm"]
    if compiles_its_sampler(target, vllm):
        # vLLM 0.32.0 raises "Could not find nvcc" instead of falling back
        assert vllm["settings"].get("VLLM_USE_FLASHINFER_SAMPLER") == "0", (
            "frameworks:vllm:settings: VLLM_USE_FLASHINFER_SAMPLER must be '0'"
        )


def test_the_production_target_has_flashinfer(pillar):
    """Otherwise the test above would check nothing."""
    assert compiles_its_sampler("ubuntu-24.04", pillar("ubuntu-24.04")["frameworks"]["vllm"])
