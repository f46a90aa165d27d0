"""All-reduce between all devices by size, with checked data. Run it with torchrun: NCCL on GPUs, gloo on a CPU.

Bus bandwidth = S / t * 2 (n - 1) / n for S bytes on each of n ranks: the rate of the slowest link, comparable with its
peak whatever n is (github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md).
"""

from __future__ import annotations

from typing import Any

import ranks
import workload

SIZES = {
    "cuda": (32 << 10, 1 << 20, 32 << 20, 256 << 20, 1 << 30),
    "cpu": (32 << 10, 1 << 20, 32 << 20),
}
"""Bytes on each rank."""
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
PATTERN = 61


def shown(size: int) -> str:
    """Return a number of bytes for reading: 32 KiB, 1 GiB."""
    return next(f"{size // unit} {name}" for unit, name in UNITS if size >= unit)


def bus_gb_s(size: int, seconds: float, world: int) -> float:
    """Return the bus bandwidth of one all-reduce in GB/s. size: bytes on each rank. seconds: of one all-reduce."""
    return size / seconds * 2 * (world - 1) / world / 1e9


def wrong_sums(torch: Any, dist: Any, values: Any, rank: int, world: int) -> int:
    """Reduce known numbers, and return how many sums are wrong on this rank.

    Element i of rank r is i mod 61 + r: whole numbers, so that the sum is exact in any order.
    """
    index = torch.arange(values.numel(), device=values.device).remainder_(PATTERN)
    values.copy_(index + rank)
    dist.all_reduce(values)
    return int((values != index * world + world * (world - 1) // 2).sum())


def measure_size(torch: Any, group: ranks.Ranks, size: int, options: Any) -> tuple[Any, Any]:
    """Measure one size; return its metric, and the check of its data before and after the measurement."""
    import torch.distributed as dist

    values = torch.zeros(size // 4, dtype=torch.float32, device=group.device)
    wrong = wrong_sums(torch, dist, values, group.rank, group.world)
    values.zero_()  # sums of sums would overflow

    def step() -> None:
        dist.all_reduce(values)

    # all ranks have to reduce equally often: estimate on a fixed number, then agree
    trial = group.seconds(step, 5) / 5
    steps = group.agreed(max(3, round(options.seconds / max(trial, 1e-6))))
    phase = f"all reduce {shown(size)}"
    if group.rank == 0:
        workload.say("phase", phase)
    samples = [bus_gb_s(size, group.seconds(step, steps) / steps, group.world) for _ in range(options.repeats)]
    if group.rank == 0:
        workload.say("phase")
    wrong += wrong_sums(torch, dist, values, group.rank, group.world)
    compared = 2 * values.numel() * group.world
    return (
        workload.metric("all reduce", "GB/s of bus bandwidth", samples, subject=shown(size), phase=phase),
        workload.check(phase, compared, sum(group.gathered(wrong))),
    )


def main() -> dict[str, Any] | None:
    options = workload.effort(__doc__).parse_args()
    import torch
    import torch.distributed as dist

    with ranks.joined() as group:
        sizes = SIZES[group.device.type] if group.world > 1 else ()
        results = []
        for number, size in enumerate(sizes):
            results.append(measure_size(torch, group, size, options))
            if group.rank == 0:
                workload.progress((number + 1) / len(sizes), f"all reduce {shown(size)}")
        work = {"backend": dist.get_backend(), "repeats": options.repeats, "sizes": list(sizes)}
        return ranks.document(group, work, [metric for metric, _ in results], checks=[check for _, check in results])


if __name__ == "__main__":
    workload.run(main)
