"""Computations of the workload programs; these are imported without their frameworks."""

import importlib
import json
import random
import sys
import types
from pathlib import Path

import pytest

WORKLOADS = Path(__file__).resolve().parents[3] / "workloads"


@pytest.fixture
def load(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(WORKLOADS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(WORKLOADS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


RATES = {"concurrent": [360.0, 396.0], "weak": [300.0, 330.0], "strong": [280.0, 308.0], "steady": [310.0]}
ALONE = [[100.0, 110.0], [98.0, 109.0], [99.0, 108.0], [97.0, 107.0]]


def training(load, alone=ALONE, **changes):
    """Return the samples of each quantity of a model, those of single devices by `quantity device`."""
    metrics = load("ddp").metrics_of("m", alone, RATES | changes, 1e9, [f"cuda:{rank}" for rank in range(len(alone))])
    return {" ".join(filter(None, (m["quantity"], m["device"]))): m["samples"] for m in metrics}


def test_efficiency_of_each_repeat_is_the_product_of_its_two_factors(load):
    rates = training(load)
    assert rates["efficiency"] == [0.75, 0.75]
    assert rates["efficiency shared"] == [0.9, 0.9]
    for whole, shared, communication in zip(
        rates["efficiency"], rates["efficiency shared"], rates["efficiency communication"], strict=True
    ):
        assert whole == pytest.approx(shared * communication)


def test_half_the_rate_is_half_the_efficiency(load):
    assert training(load, weak=[150.0, 165.0])["efficiency"] == [0.375, 0.375]


def test_every_device_is_measured_alone_and_the_spread_is_shown(load):
    rates = training(load)
    assert [rates[f"training alone cuda:{rank}"] for rank in range(4)] == ALONE
    assert rates["slowest of fastest"] == [0.97, pytest.approx(107 / 110)]


@pytest.mark.parametrize("speed", [0.2, 0.5, 0.9])
def test_a_slow_gpu_gives_the_same_efficiency_wherever_it_is(load, speed):
    """Simulated: each GPU trains 100 samples/s, the slow one less, and DDP waits for the slowest."""
    dice = random.Random(1)

    def efficiency(slow):
        noise = [[1 + dice.uniform(-0.005, 0.005) for _ in range(5)] for _ in range(4)]
        alone = [[100 * (speed if rank == slow else 1) * each for each in noise[rank]] for rank in range(4)]
        weak = [4 * 0.95 * min(repeat) for repeat in zip(*alone, strict=True)]
        rates = training(load, alone, weak=weak, concurrent=weak, strong=weak, steady=weak)
        return sorted(rates["efficiency"])[2]

    by_place = [efficiency(slow) for slow in range(4)]
    assert max(by_place) - min(by_place) < 0.02
    assert by_place[0] == pytest.approx(0.95 * speed, abs=0.02)


def test_one_device_has_no_efficiency(load):
    assert not [name for name in training(load, ALONE[:1]) if "efficiency" in name or "slowest" in name]


def test_tensorflow_counts_the_fastest_device_as_its_baseline(load):
    alone = {"cuda:0": [50.0], "cuda:1": [100.0]}
    metrics = load("tensorflow_mirrored").metrics_of(alone, [95.0], 1e12, [94.0])
    samples = {(m["quantity"], m["device"]): m["samples"] for m in metrics}
    assert samples["efficiency", None] == [0.475]
    assert samples["training alone", "cuda:0"] == [50.0]
    assert samples["model flops", None] == [47.5]


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


@pytest.mark.parametrize(
    ("size", "seconds", "world", "rate"),
    # nccl-tests, doc/PERFORMANCE.md: algorithm bandwidth S/t times 2(n-1)/n
    [(1 << 30, 0.1, 2, 10.737), (1 << 30, 0.1, 4, 16.106), (10**9, 1.0, 8, 1.75)],
)
def test_bus_bandwidth_is_that_of_nccl_tests(load, size, seconds, world, rate):
    assert load("all_reduce").bus_gb_s(size, seconds, world) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(("size", "text"), [(32 << 10, "32 KiB"), (1 << 20, "1 MiB"), (1 << 30, "1 GiB")])
def test_sizes_are_shown_in_binary_units(load, size, text):
    assert load("all_reduce").shown(size) == text


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-3", {0, 1, 2, 3}), ("0-1,8-9,31", {0, 1, 8, 9, 31}), ("5", {5}), ("", set())]
)
def test_lists_of_processors_are_those_of_the_kernel(load, text, cpus):
    assert load("copies").cpus_of(text) == cpus


@pytest.mark.parametrize("best", [(2048, 16384, 4096), (16384, 16384, 16384), (8192, 8192, 8192)])
def test_the_search_finds_the_fastest_shape(load, best):
    matmul = load("matmul")

    def speed(shape):
        return 1 / (1 + sum(abs(side - wanted) for side, wanted in zip(shape, best, strict=True)))

    assert matmul.shapes(matmul.START["cuda"], matmul.SIDES["cuda"], speed) == best


def test_the_search_never_chooses_a_shape_slower_than_the_first(load):
    matmul, dice, speeds = load("matmul"), random.Random(2), {}

    def speed(shape):
        return speeds.setdefault(shape, dice.random())

    start = matmul.START["cuda"]
    assert speed(matmul.shapes(start, matmul.SIDES["cuda"], speed)) >= speeds[start]


def test_llama_2_7b_has_the_published_size(load, tmp_path):
    config = json.loads((WORKLOADS / "models/llama-2-7b/config.json").read_text())
    serve = load("vllm_serve")
    whole, read = serve.weights_of(config, tmp_path, 2)
    # 6,738,415,616 parameters (Touvron et al. 2023, and the model card)
    assert whole == 2 * 6_738_415_616
    assert whole - read == 2 * 32000 * 4096
    # 0.5 MiB of keys and values per token: 2 x 32 layers x 4096 x 2 bytes
    assert serve.cache_bytes(config, 576, 2) == 576 * (1 << 19)


def test_grouped_queries_have_a_smaller_cache(load):
    config = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 2}
    assert load("vllm_serve").cache_bytes(config, 10, 2) == 2 * 2 * 2 * 8 * 2 * 10


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"concurrent": 16, "tensor_parallel": [], "prompt_tokens": 64}),
        (["--gpus", "4", "--tensor-parallel", "2", "4"], {"concurrent": 256, "tensor_parallel": [2, 4]}),
        (["--gpus", "1", "--rates", "1", "4", "--repeats", "3"], {"rates": [1.0, 4.0], "repeats": 3}),
    ],
)
def test_a_cpu_has_a_smaller_load(load, arguments, expected):
    options = load("vllm_serve").options_of(arguments)
    assert {name: getattr(options, name) for name in expected} == expected


def test_each_model_folder_has_its_config():
    assert {file.parent.name for file in WORKLOADS.glob("models/*/config.json")} == {"llama-2-7b", "tiny-llama"}


class Gathered:
    """Stands for the ranks of several boxes: what each has gathered."""

    def __init__(self, *values):
        self.values = values

    def gathered(self, _):
        return list(self.values)


@pytest.fixture
def boxes_of(load, monkeypatch):
    """Return the names of all ranks' boxes, and their numbers there, for what the ranks have gathered."""
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__="2.14.1"))
    monkeypatch.setenv("GROUP_RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    ranks = load("ranks")
    return lambda *values: ranks.Ranks.boxes(Gathered(*values))


def test_ranks_are_named_by_their_boxes(boxes_of):
    gathered = [("b1", 0, 0, "2"), ("b1", 0, 1, "2"), ("b2", 1, 0, "2"), ("b2", 1, 1, "2")]
    assert boxes_of(*gathered) == [("b1", 0), ("b1", 1), ("b2", 0), ("b2", 1)]


def test_boxes_of_the_same_name_are_told_apart(boxes_of):
    gathered = [("vault-cube", 0, 0, "2"), ("vault-cube", 1, 0, "2"), ("other", 2, 0, "2")]
    assert boxes_of(*gathered) == [("vault-cube (0)", 0), ("vault-cube (1)", 0), ("other", 0)]


def test_boxes_with_different_versions_of_pytorch_do_not_train(boxes_of):
    with pytest.raises(RuntimeError, match=r"2\.13 on b1, 2\.14 on b2"):
        boxes_of(("b1", 0, 0, "2.13"), ("b2", 1, 0, "2.14"))
