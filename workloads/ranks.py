"""Shared code of the workloads that torchrun starts: one process per device, barriers and agreement over gloo."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any


class Ranks:
    """This process among those of a workload. rank: its number; world: how many there are; device: its own."""

    def __init__(self, device: Any, gloo: Any) -> None:
        import torch.distributed as dist

        self.device, self.gloo = device, gloo
        # one process of each box tells the runner there about phases and progress, and prints the document
        self.speaks = os.environ.get("LOCAL_RANK", "0") == "0"
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.gpu = device.type == "cuda"

    def sync(self) -> None:
        """Wait until the device has done its work."""
        import torch

        if self.gpu:
            torch.cuda.synchronize(self.device)

    def meet(self) -> None:
        """Wait until all devices have done their work."""
        import torch.distributed as dist

        self.sync()
        dist.barrier(group=self.gloo)

    def agreed(self, number: int) -> int:
        """Return rank 0's number on all ranks."""
        import torch
        import torch.distributed as dist

        numbers = torch.tensor([number])
        dist.broadcast(numbers, 0, group=self.gloo)
        return int(numbers)

    def gathered(self, value: Any) -> list[Any]:
        """Return the value of each rank, on all ranks."""
        import torch.distributed as dist

        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.gloo)
        return values

    def seconds(self, step: Callable[[], object], own: int) -> float:
        """Return the time from the common start of all ranks to the end of the last one.

        own: number of steps of this rank; 0 for one that waits.
        """
        self.meet()
        started = time.perf_counter()
        for _ in range(own):
            step()
        self.meet()
        return time.perf_counter() - started

    def own_seconds(self, step: Callable[[], object], own: int) -> float:
        """Return the time from the common start of all ranks to the end of this one."""
        self.meet()
        started = time.perf_counter()
        for _ in range(own):
            step()
        self.sync()
        seconds = time.perf_counter() - started
        self.meet()
        return seconds

    def boxes(self) -> list[tuple[str, int]]:
        """Return the name of each rank's box, and its number there. Boxes of one name get their number as well.

        Raises RuntimeError if the boxes have different versions of PyTorch.
        """
        import torch

        own = platform.node(), int(os.environ["GROUP_RANK"]), int(os.environ["LOCAL_RANK"]), str(torch.__version__)
        gathered = self.gathered(own)
        versions = sorted({f"{version} on {name}" for name, _, _, version in gathered})
        if len({version for *_, version in gathered}) > 1:
            raise RuntimeError(f"the boxes have different versions of PyTorch: {', '.join(versions)}")
        numbers: dict[str, set[int]] = {}
        for name, group, _, _ in gathered:
            numbers.setdefault(name, set()).add(group)
        return [(name if len(numbers[name]) == 1 else f"{name} ({group})", local) for name, group, local, _ in gathered]

    def name(self, rank: int) -> str:
        """Return a rank's device as results name it: `cuda:2`; the workers of a CPU are `cpu:0`, `cpu:1`."""
        return f"{self.device.type}:{rank}"


@contextlib.contextmanager
def joined(backend: str | None = None) -> Iterator[Ranks]:
    """Join the other processes that torchrun started; leave them at the end.

    backend: of the default group; None: NCCL on GPUs, gloo on a CPU, whose cores are divided among the workers.
    """
    import torch
    import torch.distributed as dist

    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    else:
        # threads of several workers must not compete for a core
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // int(os.environ["LOCAL_WORLD_SIZE"])))
    dist.init_process_group(backend or ("nccl" if gpu else "gloo"))
    try:
        yield Ranks(device, dist.new_group(backend="gloo"))
    finally:
        dist.destroy_process_group()


def document(ranks: Ranks, work: dict[str, Any], metrics: list[dict[str, Any]], **more: Any) -> dict[str, Any] | None:
    """Return the document of a workload on the first rank of each box, None on the others."""
    import torch

    if not ranks.speaks:
        return None
    return {
        "workload": {"devices": ranks.world, "threads_per_device": torch.get_num_threads(), **work},
        "versions": {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "nccl": ".".join(map(str, torch.cuda.nccl.version())) if ranks.gpu else None,
        },
        "device": torch.cuda.get_device_name(ranks.device) if ranks.gpu else "cpu",
        "metrics": metrics,
        **more,
    }
