"""Compare our vLLM loop with `LLM.generate`, which vLLM's own `bench` times, on the same engine in one process.

The two loops alternate, so that a noisy neighbour affects both. Prints one JSON document: output tokens/s of each, and
the ratio of every pair. A ratio of 1 means that our loop over `engine.step`, which also measures latencies, costs
nothing. Before that, `vllm bench latency` runs in its own process with the same model, batch and lengths (`bench`).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workloads"))
import vllm_throughput


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--bench", metavar="FILE", help="run only vLLM's own benchmark, and write its result to FILE")
    options = parser.parse_args()
    # as in the service: FlashInfer's sampler would be compiled at start
    os.environ.update(vllm_throughput.SETTINGS | {"VLLM_USE_FLASHINFER_SAMPLER": "0"})
    out = os.dup(1)
    os.dup2(2, 1)

    import torch

    gpu = torch.cuda.is_available()
    model = Path(vllm_throughput.__file__).parent / "models" / ("llama-2-7b" if gpu else "tiny-llama")
    count, length, wanted = (256, 512, 128) if gpu else (16, 64, 32)
    if options.bench:
        bench(options.bench, model, (count, length, wanted), options.repeats, eager=not gpu)
        return
    # run it first and alone, because one engine takes all memory of a GPU
    with tempfile.NamedTemporaryFile() as file:
        call = [sys.executable, __file__, "--repeats", str(options.repeats), "--bench", file.name]
        subprocess.run(call, check=True)
        latencies = json.loads(Path(file.name).read_text())["latencies"]
    theirs_alone = [count * wanted / seconds for seconds in latencies]
    from vllm import LLM, SamplingParams

    vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
    llm = LLM(
        model=str(model), load_format="dummy", skip_tokenizer_init=True, max_model_len=length + wanted,
        enforce_eager=not gpu, enable_prefix_caching=False, seed=1,
    )  # fmt: skip
    dice = random.Random(1)  # noqa: S311 prompts are not secret
    prompts = [[dice.randrange(10, vocabulary - 10) for _ in range(length)] for _ in range(count)]
    sampling = SamplingParams(max_tokens=wanted, ignore_eos=True, detokenize=False, temperature=0)

    def ours(turn: int) -> float:
        run = vllm_throughput.generate(llm.llm_engine, sampling, prompts, f"turn{turn}")
        return run["tokens"] / run["seconds"]

    def theirs(_: int) -> float:
        started = time.perf_counter()
        outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        return sum(len(output.outputs[0].token_ids) for output in outputs) / seconds

    pairs = []
    for turn in range(options.repeats + 1):
        first, second = (ours, theirs) if turn % 2 else (theirs, ours)
        first_rate, second_rate = first(turn), second(turn)
        if turn:
            pairs.append((first_rate, second_rate) if turn % 2 else (second_rate, first_rate))
    document = {"unit": "output tokens/s", "ours": [a for a, _ in pairs], "theirs": [b for _, b in pairs],
                "ratio": [a / b for a, b in pairs], "bench": theirs_alone}  # fmt: skip
    os.write(out, (json.dumps(document) + "\n").encode())


def bench(file: str, model: Path, batch: tuple[int, int, int], repeats: int, *, eager: bool) -> None:
    """Run vLLM's `bench latency` from its module: the `vllm` command requires a package name that a CPU build lacks.

    file: its JSON output is written here. batch: number of requests, prompt tokens and output tokens per request.
    eager: run the model in eager mode.
    """
    count, length, wanted = batch
    from vllm.benchmarks import latency

    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:
        from vllm.utils import FlexibleArgumentParser
    parser = FlexibleArgumentParser()
    latency.add_cli_args(parser)
    latency.main(parser.parse_args([
        "--model", str(model), "--load-format", "dummy", "--skip-tokenizer-init",
        "--max-model-len", str(length + wanted), "--batch-size", str(count),
        "--input-len", str(length), "--output-len", str(wanted),
        "--num-iters-warmup", "2", "--num-iters", str(repeats), "--output-json", file,
        # its prompts are the same in every iteration: with a prefix cache, prefill would be skipped
        "--no-enable-prefix-caching",
        *(["--enforce-eager"] if eager else []),
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
