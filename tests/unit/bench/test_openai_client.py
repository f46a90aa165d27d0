"""The client of vLLM's server, against a server of this test: real HTTP in chunks, tokens with known gaps."""

import asyncio
import importlib
import json
import sys
import time
from pathlib import Path

import pytest

WORKLOADS = Path(__file__).resolve().parents[3] / "workloads"


@pytest.fixture
def client(monkeypatch):
    monkeypatch.syspath_prepend(str(WORKLOADS))
    yield importlib.import_module("openai_client")
    sys.modules.pop("openai_client", None)


def event(**fields):
    return f"data: {json.dumps(fields, separators=(',', ':'))}\n\n".encode()


TOKEN = event(choices=[{"text": " w5", "index": 0}])
DONE = b"data: [DONE]\n\n"


def usage(count):
    return event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": count})


class Server:
    """Sends the same parts to each request, a part per chunk, and counts the requests at the same time."""

    def __init__(self, parts, gap_s=0.0, status="200 OK"):
        self.parts, self.gap_s, self.status = parts, gap_s, status
        self.bodies, self.open, self.most = [], 0, 0

    async def handle(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        self.bodies.append(json.loads(await reader.readexactly(length)))
        self.open += 1
        self.most = max(self.most, self.open)
        writer.write(f"HTTP/1.1 {self.status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for part in self.parts:
            await asyncio.sleep(self.gap_s)
            writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        self.open -= 1
        writer.close()


def answers(client, server, **load):
    async def run():
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        fields = {
            "host": "127.0.0.1", "port": listener.sockets[0].getsockname()[1], "model": "m", "requests": 1,
            "concurrent": 8, "requests_per_s": None, "prompt_tokens": 5, "output_tokens": 3, "vocabulary": 100,
            "at": 0.0, "limit_s": 20.0,
        }  # fmt: skip
        async with listener:
            return await client.run(client.Load(**(fields | load)))

    return asyncio.run(run())


def test_tokens_and_their_times_are_counted(client):
    (answer,) = answers(client, Server([TOKEN, TOKEN, TOKEN, usage(3), DONE], gap_s=0.02))
    assert answer.tokens == 3
    assert len(answer.arrived) == 3
    assert answer.arrived == sorted(answer.arrived)
    assert answer.arrived[0] - answer.sent >= 0.02


def test_the_request_asks_for_all_tokens_as_a_stream(client):
    server = Server([TOKEN] * 3 + [usage(3), DONE])
    answers(client, server)
    (body,) = server.bodies
    assert (body["stream"], body["ignore_eos"], body["max_tokens"]) == (True, True, 3)
    assert len(body["prompt"]) == 5
    assert all(isinstance(token, int) and token < 100 for token in body["prompt"])


@pytest.mark.parametrize("split", [1, 7, 40])
def test_events_may_be_split_over_chunks(client, split):
    whole = TOKEN * 3 + usage(3) + DONE
    (answer,) = answers(client, Server([whole[n : n + split] for n in range(0, len(whole), split)]))
    assert (answer.tokens, len(answer.arrived)) == (3, 3)


def test_no_more_requests_than_asked_are_open(client):
    server = Server([TOKEN] * 3 + [usage(3), DONE], gap_s=0.01)
    assert len(answers(client, server, requests=12, concurrent=4)) == 12
    assert server.most == 4


def test_requests_at_a_rate_do_not_wait_for_each_other(client):
    server = Server([TOKEN] * 3 + [usage(3), DONE], gap_s=0.05)
    sent = [answer.sent for answer in answers(client, server, requests=8, requests_per_s=40.0, concurrent=1000)]
    assert sent == sorted(sent)
    # 7 gaps of 25 ms on average; one after the other they would take 7 x 250 ms
    assert server.most > 1


def test_all_clients_start_at_the_given_time(client):
    at = time.time() + 0.3
    answers(client, Server([TOKEN] * 3 + [usage(3), DONE]), at=at)
    assert time.time() >= at


@pytest.mark.parametrize(
    ("parts", "status", "message"),
    [
        ([b'{"error": "no such model"}'], "404 Not Found", "404 Not Found"),
        ([TOKEN, event(error={"message": "CUDA out of memory"})], "200 OK", "CUDA out of memory"),
    ],
)
def test_a_server_that_fails_is_an_error(client, parts, status, message):
    with pytest.raises(ConnectionError, match=message):
        answers(client, Server(parts, status=status))


def test_latencies_have_vllm_s_definitions(client):
    slow = client.Answer(sent=0.0, arrived=[1.0, 1.1, 1.3], tokens=3)
    fast = client.Answer(sent=0.5, arrived=[0.7, 0.8, 0.9], tokens=3)
    shown = client.summary([slow, fast], 3)
    assert shown["tokens"] == 6
    assert shown["seconds"] == pytest.approx(1.3)
    assert shown["ttft"] == pytest.approx((1.0 + 0.2) / 2)
    assert shown["tpot"] == pytest.approx((0.15 + 0.1) / 2)
    # the gaps are 0.1, 0.2, 0.1, 0.1
    assert shown["itl"] == pytest.approx(0.1)
    assert shown["itl p99"] == pytest.approx(0.197)


@pytest.mark.parametrize("counts", [[3, 1], [1, 1], [4, 4]])
def test_a_wrong_number_of_tokens_is_an_error(client, counts):
    made = [client.Answer(0.0, [0.1, 0.2], count) for count in counts]
    with pytest.raises(ArithmeticError, match="requests for 3 tokens each were answered with"):
        client.summary(made, 3)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([1.0], 0.99, 1.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.5), (list(range(101)), 0.99, 99.0), ([4.0, 1.0], 1.0, 4.0)],
)
def test_percentiles_are_numpy_s(client, values, share, expected):
    assert client.percentile(values, share) == pytest.approx(expected)
