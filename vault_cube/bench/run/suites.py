"""The command line and the environment variables of each suite."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vault_cube.bench.fields import Gpu
from vault_cube.bench.run.rendezvous import Rendezvous
from vault_cube.settings import Settings
from vault_cube.settings.benchmark import Effort, Suite

WORKLOADS = Path(__file__).resolve().parents[3] / "workloads"
"""Folder of the workload programs, beside the package in a checkout and on a box."""


@dataclass(frozen=True)
class Plan:
    """A suite's command line, and the environment variables to add."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def plan(
    suite: Suite,
    python: Path,
    settings: Settings,
    effort: Effort,
    *,
    gpus: Sequence[Gpu],
    workloads: Path = WORKLOADS,
    together: Rendezvous | None = None,
) -> Plan:
    """Return the command of a suite.

    python: interpreter of the suite's environment. effort: repeats and lengths. gpus: the GPUs to measure, as
    `Hardware.gpus`; empty means CPU. workloads: folder of the workload programs. together: the boxes that train
    together in the suite ddp; None: this box alone.
    """
    wanted = settings.benchmark
    timed = ["--repeats", f"{effort.repeats}", "--seconds", f"{effort.seconds:g}", "--steady", f"{effort.steady_s:g}"]
    near = ["--near", ";".join(str(gpu.get("cpus", "")) for gpu in gpus)]
    ranks = [str(python), "-m", "torch.distributed.run", "--nnodes", "1", "--master-addr", "127.0.0.1"]
    ranks += ["--master-port", f"{_free_port()}", "--nproc-per-node"]
    # one machine needs no network interface but loopback, and a chroot may have no other
    local = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    workers = f"{len(gpus) or wanted.cpu_workers}"
    environment = chosen_gpus(gpus)
    match suite:
        case "matmul":
            return Plan([str(python), str(workloads / "matmul.py"), *timed], environment)
        case "copies":
            # a CPU has one memory, which one worker measures with all cores
            command = [*ranks, f"{len(gpus) or 1}", str(workloads / "copies.py"), *timed, *near]
            return Plan(command, environment | local)
        case "all_reduce":
            return Plan([*ranks, workers, str(workloads / "all_reduce.py"), *timed], environment | local)
        case "ddp":
            if together:
                # boxes with another kind of accelerator have another name of the run, and never meet
                run = ["--rdzv-id", f"vault-cube-{'nvidia' if gpus else 'cpu'}"]
                ranks = [str(python), "-m", "torch.distributed.run", *together.arguments, *run, "--nproc-per-node"]
                local = {"OMP_NUM_THREADS": "1", **together.environment}
            return Plan([*ranks, workers, str(workloads / "ddp.py"), *timed], environment | local)
        case "tensorflow":
            return Plan([str(python), str(workloads / "tensorflow_mirrored.py"), *timed], environment)
        case "vllm":
            command = [str(python), str(workloads / "vllm_serve.py"), *timed, *_serving(settings, gpus)]
            # measure vLLM with the same settings as its service
            return Plan(command, environment | settings.frameworks.vllm.settings)


def chosen_gpus(gpus: Sequence[Gpu]) -> dict[str, str]:
    """Return the environment in which CUDA numbers the GPUs as NVML does, also beside one that is lost."""
    uuids = [str(gpu["uuid"]) for gpu in gpus if "uuid" in gpu]
    return {"CUDA_VISIBLE_DEVICES": ",".join(uuids)} if uuids and len(uuids) == len(gpus) else {}


def _serving(settings: Settings, gpus: Sequence[Gpu]) -> list[str]:
    serving = settings.benchmark.serving
    model = ["--model", settings.benchmark.model] if settings.benchmark.model else []
    return [
        *(["--gpus", f"{len(gpus)}", "--device", str(gpus[0].get("name", "gpu"))] if gpus else []),
        "--rates", *(f"{rate:g}" for rate in (serving.requests_per_s if gpus else serving.requests_per_s[:1])),
        "--tensor-parallel", *(f"{size}" for size in serving.tensor_parallel),
        "--concurrent", f"{serving.concurrent}",
        "--start", f"{serving.start_s:g}",
        f"--arguments={json.dumps(settings.frameworks.vllm.arguments)}",
        *model,
    ]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
