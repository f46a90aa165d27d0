"""A benchmark with stand-in workloads: real processes and real limits, but no PyTorch."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from copied import TOP, pillar_of
from fake_nvml import FakeNvml

from vault_cube.settings import check

# a workload that returns a result immediately
GOOD = """
import workload
def main():
    workload.say("phase", "steady")
    return {"workload": {"devices": 1}, "versions": {"stand-in": "1"}, "device": "cpu",
            "metrics": [workload.metric("matmul", "TFLOP/s", [1.0, 1.1, 1.2, 1.1, 1.0], subject="float32")]}
workload.run(main)
"""


class Bench:
    """A pillar with results and environments in the test's folder, and the workloads to run."""

    def __init__(self, folder):
        self.folder, self.workloads = folder, folder / "workloads"
        self.workloads.mkdir()
        shutil.copy(TOP / "workloads/workload.py", self.workloads)
        for name in ("pytorch", "tensorflow", "vllm"):
            python = folder / "envs" / name / "bin/python"
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
        self.pillar = pillar_of("debian-12")
        self.pillar["frameworks"]["folder"] = str(folder / "envs")
        self.pillar["benchmark"]["results"] = str(folder / "results")
        # 20 s: a slow test machine must not count as hung
        self.pillar["benchmark"]["stress"] |= {"sample_s": 0.1, "silence_s": 20.0, "blind_s": 1.0}

    @property
    def settings(self):
        return check(self.pillar)

    def workload(self, name, text):
        (self.workloads / f"{name}.py").write_text(text)

    def start(self, verb="benchmark", environment=None, prefix=(), **arguments):
        """Start a command of driver.py as a process; its result or its error is one JSON line."""
        (self.folder / "pillar.json").write_text(json.dumps(self.pillar))
        command = [*prefix, sys.executable, str(Path(__file__).parent / "driver.py"), verb]
        command += [str(self.folder / "pillar.json"), str(self.workloads), json.dumps(arguments)]
        variables = os.environ | {"PYTHONPATH": str(TOP)} | (environment or {})
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)

    def answer(self, process, seconds=60):
        out, err = process.communicate(timeout=seconds)
        assert "Traceback" not in err, err
        return json.loads(out.splitlines()[-1])

    def left(self, patience_s=15):
        """Return the command lines of this benchmark's processes that still run after patience_s seconds."""
        until = time.monotonic() + patience_s
        while (running := self.processes()) and time.monotonic() < until:
            time.sleep(0.1)
        return running

    def processes(self):
        running = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.workloads) in line and "driver.py" not in line:
                running.append(line)
        return running

    def until_running(self, count=1, seconds=20):
        end = time.monotonic() + seconds
        while len(self.processes()) < count:
            assert time.monotonic() < end, f"only {self.processes()} are running"
            time.sleep(0.05)


@pytest.fixture
def bench(tmp_path):
    benchmark = Bench(tmp_path)
    benchmark.workload("matmul", GOOD)
    yield benchmark
    assert not benchmark.left(), "orphan processes"


@pytest.fixture
def gpus(bench, nvml_library):
    """Two idle fake GPUs; a process with the variables of `gpus.environment` uses them."""
    fake = FakeNvml(bench.folder / "gpus", nvml_library)
    del fake.state["gpus"][2:]
    fake.every(temperature={0: 60}, power_mw=60000)
    return fake
