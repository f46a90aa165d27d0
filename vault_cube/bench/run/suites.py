"""The command line and the environment variables of each suite."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from vault_cube.settings.benchmark import Benchmark, Effort, Suite

WORKLOADS = Path(__file__).resolve().parents[3] / "workloads"
"""Folder of the workload programs, beside the package in a checkout and on a box."""


@dataclass(frozen=True)
class Plan:
    """A suite's command line, and the environment variables to add."""

    command: list[str]
    environment: dict[str, str]


def plan(
    suite: Suite, python: Path, settings: Benchmark, effort: Effort, *, gpus: int, workloads: Path = WORKLOADS
) -> Plan:
    """Return the command of a suite.

    python: interpreter of the suite's environment. effort: repeats and lengths. gpus: number of GPUs; 0 means CPU.
    workloads: folder of the workload programs.
    """
    timed = ["--repeats", f"{effort.repeats}", "--seconds", f"{effort.seconds:g}"]
    steady = ["--steady", f"{effort.steady_s:g}"]
    program = [str(python)]
    match suite:
        case "matmul":
            return Plan([*program, str(workloads / "matmul.py"), *timed], {})
        case "ddp":
            torchrun = [
                "-m",
                "torch.distributed.run",
                "--nnodes",
                "1",
                "--nproc-per-node",
                f"{gpus or settings.cpu_workers}",
                "--master-addr",
                "127.0.0.1",
                "--master-port",
                f"{_free_port()}",
            ]
            # one machine needs no network interface but loopback, and a chroot may have no other
            local = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
            return Plan([*program, *torchrun, str(workloads / "ddp.py"), *timed, *steady], local)
        case "tensorflow":
            return Plan([*program, str(workloads / "tensorflow_mirrored.py"), *timed, *steady], {})
        case "vllm":
            model = ["--model", settings.model] if settings.model else []
            parallel = ["--tensor-parallel", f"{settings.tensor_parallel}"]
            repeats = ["--repeats", f"{effort.repeats}"]
            return Plan([*program, str(workloads / "vllm_throughput.py"), *repeats, *steady, *parallel, *model], {})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
