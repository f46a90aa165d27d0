"""A real Prometheus and node exporter on loopback, with the box's alert rules and one scrape per second."""

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

from copied import TOP

PATIENCE_S = 60


class Box:
    """The parts of a box that Prometheus reads: the textfile folder, fake GPUs, and a kernel log."""

    def __init__(self, folder, nvml):
        self.folder, self.nvml = folder, nvml
        self.readings = folder / "readings"
        self.readings.mkdir()
        self.log = folder / "kernel.log"
        self.log.touch()
        # a fake journalctl, which ignores its options and prints the kernel log
        self.programs = folder / "programs"
        self.programs.mkdir()
        (self.programs / "journalctl").write_text(f"#!/bin/sh\nexec cat {self.log}\n")
        (self.programs / "journalctl").chmod(0o755)

    def read_gpus(self, *options):
        """Run the timer's command. Returns the content of the file that it writes."""
        environment = {**self.nvml.environment, "PATH": f"{self.programs}:/usr/bin:/bin", "PYTHONPATH": str(TOP)}
        command = [sys.executable, "-m", "vault_cube.metrics", "gpus", self.readings, "--answer-s=10", *options]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
        return (self.readings / "vault-cube-gpus.prom").read_text()


class Server:
    """The two programs as a context manager; `ask` sends PromQL to the HTTP API."""

    def __init__(self, folder, program, readings, configuration, rules):
        self.folder = folder
        self.ports = [free_port(), free_port()]
        (folder / "alerts.yml").write_text(rules)
        (folder / "prometheus.yml").write_text(
            replaced(
                configuration,
                {
                    "127.0.0.1:9100": f"127.0.0.1:{self.ports[0]}",
                    "_interval: 15s": "_interval: 1s",
                    "/etc/vault-cube/monitoring/alerts.yml": f"{folder}/alerts.yml",
                },
            )
        )
        node = [program("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{self.ports[0]}"]
        node += ["--collector.systemd", f"--collector.textfile.directory={readings}"]
        prometheus = [program("prometheus"), f"--config.file={folder}/prometheus.yml"]
        prometheus += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{self.ports[1]}"]
        self.commands = [node, prometheus]
        self.processes = []

    def __enter__(self):
        for number, command in enumerate(self.commands):
            with (self.folder / f"{number}.log").open("w") as log:
                self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)

    def get(self, path, **arguments):
        address = f"http://127.0.0.1:{self.ports[1]}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]

    def ask(self, query):
        """Return the result of a query: [(labels, value)]."""
        return [(sample["metric"], float(sample["value"][1])) for sample in self.get("query", query=query)["result"]]

    def until(self, query, wanted=bool):
        """Repeat a query until wanted(result) is true. Returns the result. Raises AssertionError after PATIENCE_S."""
        end, result = time.monotonic() + PATIENCE_S, "no answer"
        while time.monotonic() < end:
            dead = [process.args[0] for process in self.processes if process.poll() is not None]
            assert not dead, f"{dead} ended: {self.logs()}"
            try:
                result = self.ask(query)
            except OSError:
                result = "no answer"
            else:
                if wanted(result):
                    return result
            time.sleep(0.2)
        raise AssertionError(f"{query}: {result}; {self.logs()}")

    def logs(self):
        return "".join(file.read_text()[-2000:] for file in self.folder.glob("*.log"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def replaced(text, words):
    for old, new in words.items():
        assert old in text, old
        text = text.replace(old, new)
    return text
