"""Throughput of vLLM without a server: batch 1 and saturated, with time to first token and inter-token latency.

A model folder with only a `config.json` gets random weights of that shape: the speed is that of the real model, the
text is meaningless. No tokenizer, no download. Throughput counts output tokens only, never prompt tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import workload

# defaults of environment variables; gpu.benchmark sets those of the service (frameworks:vllm:settings)
SETTINGS = {
    # one process: imports of a second one take 10 to 20 s and do not change the measurement
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def generate(engine: Any, parameters: Any, prompts: list[list[int]], batch: str) -> dict[str, Any]:
    """Run one batch through the engine, step by step.

    parameters: sampling parameters. prompts: token IDs of each request. batch: prefix of the request names.

    Returns `seconds`, `tokens` (output tokens), and the medians of the latencies in seconds: `first` (time to first
    token) and `between` (inter-token latency). Raises ArithmeticError if a request generates another number of tokens
    than requested, because the throughput would be wrong.
    """
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    counts: dict[str, int] = {}
    started = time.perf_counter()
    for number, prompt in enumerate(prompts):
        engine.add_request(f"{batch}-{number}", {"prompt_token_ids": prompt}, parameters)
    while engine.has_unfinished_requests():
        outputs = engine.step()
        now = time.perf_counter()
        for output in outputs:
            first.setdefault(output.request_id, now)
            last[output.request_id] = now
            counts[output.request_id] = len(output.outputs[0].token_ids)
    seconds = time.perf_counter() - started
    wrong = {name: count for name, count in counts.items() if count != parameters.max_tokens}
    if wrong or len(counts) != len(prompts):
        raise ArithmeticError(
            f"{len(prompts)} requests for {parameters.max_tokens} tokens each gave "
            f"{sorted(set(counts.values()))} tokens in {len(counts)} answers: the throughput would be wrong"
        )
    gaps = max(1, parameters.max_tokens - 1)
    return {
        "seconds": seconds,
        "tokens": sum(counts.values()),
        "first": statistics.median(value - started for value in first.values()),
        "between": statistics.median((last[name] - first[name]) / gaps for name in first),
    }


def weights_of(config: dict[str, Any], folder: Path, itemsize: int) -> tuple[int, int]:
    """Return the bytes of a model's weights, and how many of them are read to decode one token.

    The input embedding is only looked up, so it does not count as read. The sizes come from the weight files if there
    are any, else from the shape of a Llama model; vLLM's own parameters cannot be used, because its CPU build repacks
    them. A mixture of experts reads less per token, so its share of the roofline is understated.

    config: the model's `config.json`. itemsize: bytes per weight.
    """
    width, heads = config["hidden_size"], config["num_attention_heads"]
    embedding = config["vocab_size"] * width * itemsize
    files = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if files:
        return files, files if config.get("tie_word_embeddings") else files - embedding
    kv = width // heads * config.get("num_key_value_heads", heads)
    layer = 2 * width * width + 2 * width * kv + 3 * width * config["intermediate_size"] + 2 * width
    body = (config["num_hidden_layers"] * layer + width) * itemsize
    return body + (1 if config.get("tie_word_embeddings") else 2) * embedding, body + embedding


def main() -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        type=Path,
        help="folder of the model; default: the shape of Llama-2-7B on a GPU, a tiny Llama on a CPU",
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--prompts", type=int, help="requests of the saturated batch; default 256 on a GPU, 16 on a CPU"
    )
    parser.add_argument("--prompt-tokens", type=int, help="default 512 on a GPU, 64 on a CPU")
    parser.add_argument("--output-tokens", type=int, help="default 128 on a GPU, 32 on a CPU")
    parser.add_argument("--tensor-parallel", type=int, default=1)
    parser.add_argument(
        "--steady", type=float, default=10.0, help="length of the run in which sensors are read, seconds"
    )
    options = parser.parse_args()
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})

    import torch
    import vllm
    from vllm import LLM, SamplingParams

    gpu = torch.cuda.is_available()
    model = options.model or Path(__file__).parent / "models" / ("llama-2-7b" if gpu else "tiny-llama")
    count = options.prompts or (256 if gpu else 16)
    length, wanted = options.prompt_tokens or (512 if gpu else 64), options.output_tokens or (128 if gpu else 32)
    config = json.loads((model / "config.json").read_text())
    weights = any(model.glob("*.safetensors"))
    workload.progress(0.15, "vLLM is imported")
    llm = LLM(
        model=str(model),
        load_format="auto" if weights else "dummy",
        skip_tokenizer_init=True,
        max_model_len=length + wanted,
        tensor_parallel_size=options.tensor_parallel,
        # a CPU box has no compiler, so run the model in PyTorch's eager mode
        enforce_eager=not gpu,
        # the prompts are repeated: with a prefix cache, prefill would be skipped
        enable_prefix_caching=False,
        seed=1,
    )
    workload.progress(0.4, "the model is loaded")
    engine = llm.llm_engine
    dtype = engine.model_config.dtype
    size, read = weights_of(config, model, dtype.itemsize)
    dice = random.Random(1)  # noqa: S311 prompts are not secret
    prompts = [[dice.randrange(10, config["vocab_size"] - 10) for _ in range(length)] for _ in range(count)]
    sampling = SamplingParams(max_tokens=wanted, ignore_eos=True, detokenize=False, temperature=0)

    single, saturated = [], []
    for repeat in range(options.repeats + 1):
        single_run = generate(engine, sampling, prompts[:1], f"one{repeat}")
        saturated_run = generate(engine, sampling, prompts, f"many{repeat}")
        # the first repeat only warms up
        if repeat:
            single.append(single_run)
            saturated.append(saturated_run)
        workload.progress(0.45 + 0.45 * (repeat + 1) / (options.repeats + 1), f"repeat {repeat} of {options.repeats}")
    workload.say("phase", "steady")
    end, turn = time.perf_counter() + options.steady, 0
    while time.perf_counter() < end:
        generate(engine, sampling, prompts, f"steady{turn}")
        turn += 1
    workload.say("phase")
    metrics: dict[str, Any] = {}
    for name, runs in (("batch1", single), ("saturated", saturated)):
        metrics[f"{name}_output"] = workload.metric("output tokens/s", [run["tokens"] / run["seconds"] for run in runs])
        metrics[f"{name}_first_token"] = workload.metric("ms", [run["first"] * 1e3 for run in runs], "lower")
        metrics[f"{name}_between_tokens"] = workload.metric("ms", [run["between"] * 1e3 for run in runs], "lower")
    # the roofline applies to decoding alone, without the prompt
    metrics["batch1_decode"] = workload.metric("output tokens/s", [1 / run["between"] for run in single])
    return {
        "workload": {
            "model": model.name,
            "weights": "of the model" if weights else "random",
            "weight_bytes": size,
            "decode_bytes": read,
            "prompts": count,
            "prompt_tokens": length,
            "output_tokens": wanted,
            "tensor_parallel": options.tensor_parallel,
            "precision": str(dtype).removeprefix("torch."),
            "repeats": options.repeats,
            "devices": options.tensor_parallel,
        },
        "versions": {"vllm": vllm.__version__, "torch": torch.__version__, "cuda": torch.version.cuda},
        "device": torch.cuda.get_device_name(0) if gpu else "cpu",
        "metrics": metrics,
    }


if __name__ == "__main__":
    workload.run(main)
