"""Computations of the workload programs; these are imported without their frameworks."""

import importlib
import sys
from pathlib import Path

import pytest

WORKLOADS = Path(__file__).resolve().parents[3] / "workloads"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(WORKLOADS))
    yield importlib.import_module
    for name in ("ddp", "workload", "vllm_throughput"):
        sys.modules.pop(name, None)


RATES = {"solo": [100.0, 110.0], "concurrent": [180.0, 198.0], "weak": [150.0, 165.0], "strong": [140.0, 154.0]}


def sample_lists(load, world=2, **changes):
    metrics = load("ddp").metrics_of("m", RATES | changes, world, 1e9)
    return {name: metric["samples"] for name, metric in metrics.items()}


def test_efficiency_of_each_repeat_is_the_product_of_its_two_factors(load):
    ratios = sample_lists(load)
    assert ratios["m_efficiency"] == [0.75, 0.75]
    assert ratios["m_efficiency_shared"] == [0.9, 0.9]
    for whole, shared, communication in zip(
        ratios["m_efficiency"], ratios["m_efficiency_shared"], ratios["m_efficiency_communication"], strict=True
    ):
        assert whole == pytest.approx(shared * communication)


def test_half_the_rate_is_half_the_efficiency(load):
    assert sample_lists(load, weak=[75.0, 82.5])["m_efficiency"] == [0.375, 0.375]


def test_one_device_has_no_efficiency(load):
    assert not [name for name in sample_lists(load, world=1) if "efficiency" in name]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (RuntimeError("CUDA error: unspecified launch failure"), "gpu lost"),
        (ModuleNotFoundError("No module named 'torch'"), "missing"),
        (ValueError("no"), "error"),
    ],
)
def test_errors_are_classified(load, error, kind):
    assert load("workload").kind_of(error) == kind


class Engine:
    """A fake vLLM engine that generates a fixed number of tokens per request."""

    def __init__(self, tokens):
        self.generated, self.tokens = {}, tokens

    def add_request(self, name, _prompt, _parameters):
        self.generated[name] = 0

    def has_unfinished_requests(self):
        return any(count < self.tokens for count in self.generated.values())

    def step(self):
        self.generated = {name: count + 1 for name, count in self.generated.items()}
        return [Output(name, count) for name, count in self.generated.items()]


class Output:
    def __init__(self, name, count):
        self.request_id, self.outputs = name, [self]
        self.token_ids = range(count)


class Parameters:
    max_tokens = 8


def test_a_wrong_number_of_tokens_is_an_error(load):
    generate = load("vllm_throughput").generate
    run = generate(Engine(8), Parameters, [[1, 2]] * 3, "a")
    assert run["tokens"] == 24
    with pytest.raises(ArithmeticError, match=r"3 requests for 8 tokens each gave \[1\] tokens"):
        generate(Engine(1), Parameters, [[1, 2]] * 3, "b")


def test_llama_2_7b_has_the_published_size(load, tmp_path):
    import json

    config = json.loads((WORKLOADS / "models/llama-2-7b/config.json").read_text())
    whole, read = load("vllm_throughput").weights_of(config, tmp_path, 2)
    # 6,738,415,616 parameters (Touvron et al. 2023, and the model card)
    assert whole == 2 * 6_738_415_616
    assert whole - read == 2 * 32000 * 4096


def test_each_model_folder_has_its_config():
    assert {file.parent.name for file in WORKLOADS.glob("models/*/config.json")} == {"llama-2-7b", "tiny-llama"}
