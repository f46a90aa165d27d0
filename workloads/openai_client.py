"""Send completions to an OpenAI server at a given load, and time every token. Standard library only.

Reads a load as JSON from stdin, prints what was measured as JSON. One process per server: a process that serves several
at once would delay the tokens that it times.

The definitions are those of vLLM's own benchmark (vllm/benchmarks/serve.py). TTFT: from the request to the first token.
TPOT: (end - first token) / (tokens - 1) of a request. ITL: each gap between two parts of an answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Load:
    """The load to put on one server.

    at: Unix time of the start, equal for all clients that start together; 0: now. requests_per_s: mean rate of a
    Poisson process; None: all requests at once, at most `concurrent` at the same time. vocabulary: token IDs are below
    it.
    """

    host: str
    port: int
    model: str
    requests: int
    concurrent: int
    requests_per_s: float | None
    prompt_tokens: int
    output_tokens: int
    vocabulary: int
    at: float
    limit_s: float
    seed: int = 1


@dataclass
class Answer:
    """The times of one answer, in seconds since the start of the load, the same for all clients."""

    sent: float
    arrived: list[float] = field(default_factory=list)
    """One per part of the answer; a part is mostly one token."""
    tokens: int = 0


async def lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of an HTTP body in chunks (RFC 9112, section 7.1)."""
    rest = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        rest += await reader.readexactly(size)
        await reader.readexactly(2)
        *whole, rest = rest.split(b"\n")
        for line in whole:
            yield line.strip()
    if rest:
        yield rest.strip()


async def complete(load: Load, prompt: Sequence[int], started: float) -> Answer:
    """Send one request, and read its answer. Raises ConnectionError for an answer that is no stream of tokens."""
    body = json.dumps(
        {
            "model": load.model,
            "prompt": prompt,
            "max_tokens": load.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {load.host}:{load.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    answer = Answer(time.perf_counter() - started)
    reader, writer = await asyncio.open_connection(load.host, load.port, limit=1 << 20)
    try:
        writer.write(head.encode() + body)
        status = await reader.readline()
        headers = [line async for line in _headers(reader)]
        if b" 200 " not in status or b"transfer-encoding: chunked" not in headers:
            text = (await reader.read(500)).decode(errors="replace")
            raise ConnectionError(f"{status.decode(errors='replace').strip()}: {text}")
        async for line in lines(reader):
            _take(answer, line, started)
    finally:
        writer.close()
    return answer


async def _headers(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while line := (await reader.readline()).strip().lower():
        yield line


def _take(answer: Answer, line: bytes, started: float) -> None:
    """Take one line of a stream of events: `data: {…}`, at the end `data: [DONE]`."""
    if not line.startswith(b"data: {"):
        return
    now = time.perf_counter() - started
    # most events are not parsed: that would take longer than a token does
    if b'"usage":{' in line or b'"error"' in line:
        event = json.loads(line[6:])
        if "error" in event:
            raise ConnectionError(f"the server failed: {json.dumps(event['error'])[:300]}")
        answer.tokens = event["usage"]["completion_tokens"]
        if not event["choices"]:
            return
    answer.arrived.append(now)


async def run(load: Load) -> list[Answer]:
    """Put the load on the server; return all answers."""
    dice = random.Random(load.seed)  # noqa: S311 prompts are not secret
    prompts = [
        [dice.randrange(10, load.vocabulary - 10) for _ in range(load.prompt_tokens)] for _ in range(load.requests)
    ]
    gate = asyncio.Semaphore(load.concurrent)
    await asyncio.sleep(max(0.0, load.at - time.time()))
    # a client that starts late must not look as if it had started with the others
    started = time.perf_counter() - max(0.0, time.time() - load.at if load.at else 0.0)

    async def send(prompt: list[int], due: float) -> Answer:
        await asyncio.sleep(max(0.0, due - (time.perf_counter() - started)))
        async with gate:
            return await complete(load, prompt, started)

    due, sending = time.perf_counter() - started, []
    for prompt in prompts:
        sending.append(asyncio.create_task(send(prompt, due)))
        if load.requests_per_s:
            due += dice.expovariate(load.requests_per_s)
    return await asyncio.wait_for(asyncio.gather(*sending), load.limit_s)


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile with linear interpolation, as numpy does it. share: 0 to 1."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(answers: Sequence[Answer], output_tokens: int) -> dict[str, float]:
    """Return rates and latencies of a load: `tokens`, `seconds`, and medians and P99 in seconds.

    Raises ArithmeticError if an answer has another number of tokens than requested: the rates would be wrong.
    """
    counts = sorted({answer.tokens for answer in answers})
    if counts != [output_tokens] or not all(answer.arrived for answer in answers):
        raise ArithmeticError(
            f"{len(answers)} requests for {output_tokens} tokens each were answered with {counts} tokens"
        )
    first = [answer.arrived[0] - answer.sent for answer in answers]
    per_token = [(answer.arrived[-1] - answer.arrived[0]) / max(1, answer.tokens - 1) for answer in answers]
    gaps = [b - a for answer in answers for a, b in zip(answer.arrived, answer.arrived[1:], strict=False)] or [0.0]
    shown = {"tokens": float(sum(answer.tokens for answer in answers))}
    shown["seconds"] = max(answer.arrived[-1] for answer in answers) - min(answer.sent for answer in answers)
    for name, values in (("ttft", first), ("tpot", per_token), ("itl", gaps)):
        shown[name], shown[f"{name} p99"] = statistics.median(values), percentile(values, 0.99)
    return shown


def main() -> dict[str, Any]:
    load = Load(**json.load(sys.stdin))
    return {"answers": [vars(answer) for answer in asyncio.run(run(load))]}


if __name__ == "__main__":
    import workload

    workload.run(main)
