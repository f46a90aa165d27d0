"""vLLM through its OpenAI server, as users run it: one replica per GPU, all at once, then tensor parallel.

Loads: one request at a time; saturated, all requests at once; requests at given rates, spread over the replicas. vLLM's
own `bench serve` measures the last rate once more, beside ours. A model folder with only a `config.json` gets random
weights of that shape: the speed is that of the real model, the text is meaningless. Nothing is downloaded. Throughput
counts output tokens only.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai_client
import workload
from openai_client import Answer, Load

HERE = Path(__file__).parent
NAME = "benchmark"
SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # a chroot may have no network but loopback
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
"""Defaults of environment variables; gpu.benchmark sets those of the service (frameworks:vllm:settings)."""
LATENCIES = ("ttft", "tpot", "itl")


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


def cache_bytes(config: dict[str, Any], tokens: float, itemsize: int) -> float:
    """Return the bytes of the KV cache that decoding one token reads: keys and values of all layers.

    tokens: length of the text so far. itemsize: bytes per value.
    """
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    return 2.0 * config["num_hidden_layers"] * config.get("num_key_value_heads", heads) * size * itemsize * tokens


def prepare(model: Path, folder: Path) -> Path:
    """Copy a model without a tokenizer, and give it one with a word per token; the server needs one to answer."""
    if (model / "tokenizer.json").exists() or (model / "tokenizer.model").exists():
        return model
    from tokenizers import Tokenizer, models, pre_tokenizers

    shutil.copytree(model, folder)
    count = json.loads((model / "config.json").read_text())["vocab_size"]
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{number}": number for number in range(3, count)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


class Server:
    """A server as a process. gpus: the numbers of its GPUs among the visible ones; empty on a CPU."""

    def __init__(self, command: Sequence[str], gpus: Sequence[int], log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.log, visible = log, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        own = [visible[gpu] if gpu < len(visible) and visible[gpu] else str(gpu) for gpu in gpus]
        environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ",".join(own)} if gpus else {})
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=out, stderr=out, env=environment
            )

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def wait(self, until: float) -> None:
        """Wait until the server answers. until: monotonic time. Raises RuntimeError with the end of its log."""
        while self.process.poll() is None and time.monotonic() < until:
            try:
                urllib.request.urlopen(self.url("/health"), timeout=5).close()  # noqa: S310 this machine
            except OSError:
                time.sleep(0.5)
            else:
                return
        lines = [
            line for line in self.log.read_text(errors="replace").splitlines() if "Error" in line or "rror:" in line
        ]
        ended = self.process.poll()
        state = "does not answer" if ended is None else f"exited with status {ended}"
        raise RuntimeError(f"the server {state}: {(lines or ['no error in its output'])[-1].strip()[-200:]}")

    def version(self) -> str | None:
        """Return vLLM's version."""
        with urllib.request.urlopen(self.url("/version"), timeout=10) as answer:  # noqa: S310 this machine
            return str(json.load(answer).get("version"))

    def end(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def serving(command: Sequence[str], groups: Sequence[Sequence[int]], start_s: float) -> Iterator[list[Server]]:
    """Start a server per group of GPUs, all at the same time; end them at the end. start_s: time that they have."""
    servers: list[Server] = []
    try:
        for number, gpus in enumerate(groups):
            servers.append(Server(command, gpus, Path(f"server-{number}.log")))
        until = time.monotonic() + start_s
        for server in servers:
            server.wait(until)
        yield servers
    finally:
        for server in servers:
            server.end()


def put(loads: Sequence[Load]) -> list[list[Answer]]:
    """Put the loads on their servers at the same time; return the answers of each. Raises RuntimeError."""
    # after a second, all clients have started; a single one need not wait for others
    at = time.time() + (1 if len(loads) > 1 else 0)
    with ThreadPoolExecutor(len(loads)) as pool:
        return list(pool.map(client, [dataclasses.replace(load, at=at) for load in loads]))


def client(load: Load) -> list[Answer]:
    """Put one load on its server by a process of its own. Raises RuntimeError if the client or the server fails."""
    command = [sys.executable, str(HERE / "openai_client.py")]
    text = subprocess.run(
        command, input=json.dumps(dataclasses.asdict(load)), stdout=subprocess.PIPE, text=True, check=False
    ).stdout
    document = json.loads(text.splitlines()[-1]) if text.strip() else {"error": {"message": "no answer"}}
    if "error" in document:
        raise RuntimeError(f"a client failed: {document['error']['message']}")
    return [Answer(**answer) for answer in document["answers"]]


class Measurement:
    """The metrics of all loads, filled repeat by repeat."""

    def __init__(self, options: argparse.Namespace, config: dict[str, Any]) -> None:
        self.options, self.config = options, config
        self.samples: dict[tuple[str, str, str | None], list[float]] = {}

    def load(self, server: Server, requests: int, rate: float | None, concurrent: int) -> Load:
        """Return a load for one server."""
        return Load(
            host="127.0.0.1",
            port=server.port,
            model=NAME,
            requests=requests,
            concurrent=concurrent,
            requests_per_s=rate,
            prompt_tokens=self.options.prompt_tokens,
            output_tokens=self.options.output_tokens,
            vocabulary=self.config["vocab_size"],
            at=0.0,
            limit_s=600.0,
            seed=1 + server.port,
        )

    def add(self, subject: str, device: str | None, answers: Sequence[Answer]) -> None:
        """Add one repeat of a load. device: the replica's; None: all replicas together."""
        summary = openai_client.summary(answers, self.options.output_tokens)
        values = {"output": summary["tokens"] / summary["seconds"]}
        if subject.endswith("one request"):
            values["decode"] = 1 / summary["tpot"] if summary["tpot"] else 0.0
        values |= {name: summary[name] * 1e3 for latency in LATENCIES for name in (latency, f"{latency} p99")}
        for quantity, value in values.items():
            self.samples.setdefault((quantity, subject, device), []).append(value)

    def repeat(self, servers: Sequence[Server], prefix: str, devices: Sequence[str | None], *, rates: bool) -> None:
        """Measure each load once. prefix: of the loads' names. devices: of the servers. rates: also at given rates."""
        several = len(servers) > 1
        plans: list[tuple[str, int, float | None, int]] = [
            ("one request", 1, None, 1),
            ("saturated", self.options.concurrent, None, self.options.concurrent),
        ]
        for rate in self.options.rates if rates else ():
            share = rate / len(servers)
            plans.append((f"{rate:g} requests/s", max(2, round(share * self.options.steady)), share, 10_000))
        for name, requests, share_of_rate, concurrent in plans:
            subject = f"{prefix}{name}"
            workload.say("phase", subject)
            answers = put([self.load(server, requests, share_of_rate, concurrent) for server in servers])
            workload.say("phase")
            if share_of_rate is None:
                for device, own in zip(devices, answers, strict=True):
                    self.add(subject, device, own)
            if several or share_of_rate is not None:
                self.add(subject, None, [answer for own in answers for answer in own])

    def metrics(self) -> list[dict[str, Any]]:
        """Return the metrics for the document."""
        units = {"output": "output tokens/s", "decode": "output tokens/s"}
        return [
            workload.metric(
                quantity,
                units.get(quantity, "ms"),
                samples,
                better="higher" if quantity in units else "lower",
                subject=subject,
                device=device,
                phase=subject,
            )
            for (quantity, subject, device), samples in self.samples.items()
        ]


def own_benchmark(server: Server, model: Path, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """Measure one server with vLLM's own `bench serve`; return its numbers, or why there are none.

    rate: requests per second.
    """
    file = Path("bench-serve.json")
    done = subprocess.run(
        [
            sys.executable, str(HERE / "vllm_bench.py"), "--backend", "openai",
            "--base-url", server.url(""), "--model", NAME, "--tokenizer", str(model), "--dataset-name", "random",
            "--random-input-len", str(options.prompt_tokens), "--random-output-len", str(options.output_tokens),
            "--num-prompts", str(max(2, round(rate * options.steady))), "--request-rate", f"{rate:g}",
            "--ignore-eos", "--temperature", "0", "--percentile-metrics", "ttft,tpot,itl", "--metric-percentiles", "99",
            "--save-result", "--result-filename", file.name,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        numbers = json.loads(file.read_text())
    except (OSError, ValueError):
        return {"why_not": (done.stderr.strip().splitlines() or ["no result"])[-1][-200:]}
    wanted = [
        "completed",
        "output_throughput",
        *(f"{kind}_{name}_ms" for name in LATENCIES for kind in ("median", "p99")),
    ]
    return {"requests_per_s": rate, **{name: round(numbers[name], 3) for name in wanted if name in numbers}}


def command_of(model: Path, options: argparse.Namespace, weights: bool) -> list[str]:
    """Return the command of the server, that of the box's service with our model; the port is added later."""
    eager = [] if options.gpus else ["--enforce-eager"]  # a CPU box has no compiler
    return [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", *json.loads(options.arguments),
        "--model", str(model), "--served-model-name", NAME, "--host", "127.0.0.1",
        "--load-format", "auto" if weights else "dummy", "--seed", "1", *eager,
        # vLLM's own benchmark may make prompts that are some tokens longer
        "--max-model-len", str(options.prompt_tokens + options.output_tokens + 16),
        # the prompts are repeated: with a prefix cache, prefill would be skipped
        "--no-enable-prefix-caching",
    ]  # fmt: skip


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; those not given depend on whether there are GPUs."""
    parser = workload.effort(__doc__)
    parser.add_argument("--model", type=Path, help="folder; default: the shape of Llama-2-7B, on a CPU a tiny Llama")
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="name of the GPUs, for the result")
    parser.add_argument("--rates", type=float, nargs="*", default=[], help="requests per second")
    parser.add_argument("--tensor-parallel", type=int, nargs="*", default=[], help="numbers of GPUs per server")
    parser.add_argument("--concurrent", type=int, default=256, help="requests at once on a saturated server")
    parser.add_argument("--prompt-tokens", type=int)
    parser.add_argument("--output-tokens", type=int)
    parser.add_argument("--start", type=float, default=600.0, help="time that a server has to start, seconds")
    parser.add_argument("--arguments", default="[]", help="arguments of the service, a JSON list")
    options = parser.parse_args(arguments)
    gpu = options.gpus > 0
    options.prompt_tokens = options.prompt_tokens or (512 if gpu else 64)
    options.output_tokens = options.output_tokens or (128 if gpu else 32)
    if not gpu:
        options.concurrent, options.tensor_parallel = min(16, options.concurrent), []
    options.model = options.model or HERE / "models" / ("llama-2-7b" if gpu else "tiny-llama")
    return options


def main() -> dict[str, Any]:
    options = options_of()
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    config = json.loads((options.model / "config.json").read_text())
    weights = any(options.model.glob("*.safetensors"))
    model = prepare(options.model, Path("model").absolute())
    command = command_of(model, options, weights)
    measurement = Measurement(options, config)
    sizes = [size for size in options.tensor_parallel if size <= options.gpus]
    turns = options.repeats * (1 + len(sizes))

    replicas = [[gpu] for gpu in range(options.gpus)] or [[]]
    devices = [f"cuda:{gpu}" for gpu in range(options.gpus)] or ["cpu"]
    with serving(command, replicas, options.start) as servers:
        put([measurement.load(server, 2, None, 2) for server in servers])  # warm up
        for repeat in range(options.repeats):
            measurement.repeat(servers, "", devices, rates=True)
            workload.progress((repeat + 1) / turns, f"replicas, repeat {repeat + 1}")
        version = servers[0].version()
        theirs = own_benchmark(servers[0], model, options, options.rates[-1] / len(servers)) if options.rates else {}
    for number, size in enumerate(sizes):
        parallel = [*command, "--tensor-parallel-size", str(size)]
        with serving(parallel, [range(size)], options.start) as servers:
            put([measurement.load(servers[0], 2, None, 2)])
            for repeat in range(options.repeats):
                measurement.repeat(servers, f"tensor parallel {size}, ", [None], rates=False)
                workload.progress((options.repeats * (number + 1) + repeat + 1) / turns, f"tensor parallel {size}")
    itemsize = 4 if config.get("torch_dtype") == "float32" else 2
    size, read = weights_of(config, options.model, itemsize)
    middle = options.prompt_tokens + options.output_tokens / 2
    return {
        "workload": {
            "model": options.model.name,
            "weights": "of the model" if weights else "random",
            "weight_bytes": size,
            "decode_bytes": read + cache_bytes(config, middle, itemsize),
            "concurrent": options.concurrent,
            "requests_per_s": options.rates,
            "prompt_tokens": options.prompt_tokens,
            "output_tokens": options.output_tokens,
            "tensor_parallel": sizes,
            "repeats": options.repeats,
            "devices": len(replicas),
            "bench_serve": theirs,
        },
        "versions": {"vllm": version},
        "device": options.device,
        "metrics": measurement.metrics(),
    }


if __name__ == "__main__":
    workload.run(main)
