"""The workload of vLLM's server, run as it is, against a stand-in of the server: what it starts, measures, and ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKLOAD = Path(__file__).resolve().parents[3] / "workloads/vllm_serve.py"

# answers a token per {gap} s, as vLLM's server does; notes its GPUs and arguments
SERVER = """
import argparse, json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        body = json.dumps({{"version": "0.stand-in"}}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def part(self, **fields):
        data = b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\\n\\n"
        self.wfile.write(f"{{len(data):x}}\\r\\n".encode() + data + b"\\r\\n")
    def do_POST(self):
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200); self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
        for _ in range(wanted["max_tokens"]):
            time.sleep({gap})
            self.part(choices=[{{"text": " w5"}}])
        self.part(choices=[], usage={{"completion_tokens": wanted["max_tokens"]}})
        self.wfile.write(b"0\\r\\n\\r\\n")

class Server(ThreadingHTTPServer):
    request_queue_size = 64

options = dict(zip(sys.argv[1::1], sys.argv[2::1]))
with open({log!r}, "a") as log:
    log.write(json.dumps({{"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "arguments": sys.argv[1:]}}) + "\\n")
{before}
Server(("127.0.0.1", int(options["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def serve(tmp_path):
    """Run the workload with a stand-in server; return its document and what the servers were started with."""

    def run(*arguments, gap=0.001, before="", visible=None):
        package = tmp_path / "site/vllm/entrypoints/openai"
        package.mkdir(parents=True)
        log = tmp_path / "servers.jsonl"
        (package / "api_server.py").write_text(SERVER.format(gap=gap, log=str(log), before=before))
        model = tmp_path / "model"
        model.mkdir()
        config = json.loads((WORKLOAD.parent / "models/tiny-llama/config.json").read_text())
        (model / "config.json").write_text(json.dumps(config))
        (model / "tokenizer.json").write_text("{}")
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        variables = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
        variables |= {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
        command = [sys.executable, str(WORKLOAD), "--model", str(model), "--concurrent", "4", "--output-tokens", "4"]
        command += ["--prompt-tokens", "3", "--repeats", "2", "--steady", "0.2", "--start", "240", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=scratch, env=variables, timeout=300, check=False
        )
        servers = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return json.loads(done.stdout.splitlines()[-1]), servers, done.stderr

    return run


def test_a_cpu_has_one_server_and_all_loads(serve):
    document, servers, messages = serve("--rates", "20")
    assert len(servers) == 1
    assert "--enforce-eager" in servers[0]["arguments"]
    by_name = {(m["quantity"], m["subject"], m["device"]): m for m in document["metrics"]}
    for quantity in ("output", "ttft", "ttft p99", "tpot", "tpot p99", "itl", "itl p99"):
        for subject, device in (("one request", "cpu"), ("saturated", "cpu"), ("20 requests/s", None)):
            assert len(by_name[quantity, subject, device]["samples"]) == 2
    # a token takes the stand-in 1 ms at least
    assert min(by_name["tpot", "one request", "cpu"]["samples"]) >= 1
    assert by_name["ttft", "one request", "cpu"]["better"] == "lower"
    assert document["versions"] == {"vllm": "0.stand-in"}
    assert "@phase saturated" in messages
    # the stand-in has no `bench serve`
    assert "why_not" in document["workload"]["bench_serve"]


def test_each_gpu_has_a_replica_then_tensor_parallel(serve):
    arguments = ("--gpus", "4", "--device", "a card", "--tensor-parallel", "2", "4", "8", "--repeats", "1")
    document, servers, _ = serve(*arguments, visible="A,B,C,D")
    assert sorted(server["gpus"] for server in servers[:4]) == ["A", "B", "C", "D"]
    sizes = [server["arguments"].index("--tensor-parallel-size") + 1 for server in servers[4:]]
    parallel = [(server["gpus"], server["arguments"][at]) for server, at in zip(servers[4:], sizes, strict=True)]
    assert parallel == [("A,B", "2"), ("A,B,C,D", "4")]
    assert len({server["arguments"][-1] for server in servers[:4]}) == 4, "one port each"
    devices = [m["device"] for m in document["metrics"] if (m["quantity"], m["subject"]) == ("output", "saturated")]
    assert devices == ["cuda:0", "cuda:1", "cuda:2", "cuda:3", None]
    assert document["workload"]["tensor_parallel"] == [2, 4]


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("sys.exit('ValueError: no such model')", "ValueError: no such model"),
        ("raise RuntimeError('CUDA out of memory')", "CUDA out of memory"),
    ],
)
def test_a_server_that_does_not_start_names_its_error(serve, before, message):
    document, _, _ = serve(before=before)
    assert message in document["error"]["message"]


def test_out_of_memory_in_a_server_has_this_kind(serve):
    document, _, _ = serve(before="raise RuntimeError('CUDA out of memory')")
    assert document["error"]["kind"] == "out of memory"
