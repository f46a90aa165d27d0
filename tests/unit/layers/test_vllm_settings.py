"""What the vLLM service must be told, because of what its environment is made of."""

from pathlib import Path

import pytest

from vault_cube.image.locks import pylock

TOP = Path(__file__).parents[3]
TARGETS = sorted(file.stem for file in (TOP / "pillar/targets").glob("*.sls"))


def compiles_its_sampler(target, vllm):
    """Whether vLLM's locked environment has FlashInfer: its sampler is compiled by an nvcc on PATH when vLLM starts."""
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
    """Else the test above would try nothing."""
    assert compiles_its_sampler("ubuntu-24.04", pillar("ubuntu-24.04")["frameworks"]["vllm"])
