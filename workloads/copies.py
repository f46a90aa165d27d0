"""Copies: within each card's memory, between host and card in both directions, between cards. Run it with torchrun.

One process per GPU, bound to the processors near it, so that its page-locked memory is near, too (Linux puts a page
where it is first touched). Copies between host and card are measured for each card alone and for all together. Data
that was copied is compared byte by byte. Bytes of a copy within one memory: read plus written, as STREAM counts them
(McCalpin 1995); of a copy between memories: the bytes transferred.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import ranks
import workload

# larger than any cache of the device: those of server CPUs are below 1.2 GiB, those of GPUs below 0.2 GiB
BYTES = {"cuda": 1 << 30, "cpu": 256 << 20}
PATTERN = 251
"""A prime: bytes that were moved by a power of two do not match."""


def cpus_of(text: str) -> set[int]:
    """Return the processors of a list in the kernel's form, such as `0-15,32-47`; none for an empty text."""
    parts = [part.partition("-") for part in text.split(",") if part]
    return {number for first, _, last in parts for number in range(int(first), int(last or first) + 1)}


def bind(near: list[str], rank: int) -> str | None:
    """Bind this process to the processors near its GPU; return their list, None if it is not known.

    near: the list of processors near each GPU, by rank.
    """
    chosen = near[rank] if rank < len(near) else ""
    cpus = cpus_of(chosen) & os.sched_getaffinity(0)
    if not cpus:
        return None
    os.sched_setaffinity(0, cpus)
    return chosen


class Buffers:
    """Two buffers in the card's memory, and two page-locked ones in the host's."""

    def __init__(self, torch: Any, group: ranks.Ranks) -> None:
        self.torch, self.group = torch, group
        self.count = BYTES[group.device.type]
        pattern = torch.arange(PATTERN, dtype=torch.uint8).repeat(self.count // PATTERN + 1)[: self.count].clone()
        self.expected = pattern
        self.source = pattern.to(group.device)
        self.target = torch.empty_like(self.source)
        if group.gpu:
            self.up, self.down = pattern.pin_memory(), torch.empty_like(pattern).pin_memory()
            self.streams = [torch.cuda.Stream(group.device) for _ in range(2)]

    def within(self) -> None:
        """Copy within the device's memory."""
        self.target.copy_(self.source)

    def to_device(self) -> None:
        """Copy from the host to the card."""
        self.target.copy_(self.up, non_blocking=True)

    def to_host(self) -> None:
        """Copy from the card to the host."""
        self.down.copy_(self.source, non_blocking=True)

    def both_ways(self) -> None:
        """Copy in both directions at the same time."""
        with self.torch.cuda.stream(self.streams[0]):
            self.to_device()
        with self.torch.cuda.stream(self.streams[1]):
            self.to_host()

    def checks(self) -> list[dict[str, Any]]:
        """Copy once through host and card, and compare all bytes."""
        name = self.group.name(self.group.rank) if self.group.gpu else "cpu"
        self.target.fill_(PATTERN)
        if not self.group.gpu:
            self.within()
            return [workload.check("memory copy", self.count, self.wrong(self.target), name)]
        self.to_device()
        self.group.sync()
        arrived = self.wrong(self.target)
        self.down.fill_(PATTERN)
        self.to_host()
        self.group.sync()
        return [
            workload.check("host to device", self.count, arrived, name),
            workload.check("device to host", self.count, self.wrong(self.down), name),
        ]

    def wrong(self, copied: Any) -> int:
        """Return how many bytes differ from the pattern; compared on the host, whose copy of it was never moved."""
        return int((copied.cpu() != self.expected).sum())


def measure_rank(buffers: Buffers, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the copies of each card, alone and all together; return the metrics of this rank's card."""
    group, size = buffers.group, buffers.count / 1e9
    name = group.name(group.rank) if group.gpu else "cpu"
    kinds: dict[str, tuple[float, Callable[[], None]]] = {"memory copy": (2 * size, buffers.within)}
    if group.gpu:
        kinds |= {
            "host to device": (size, buffers.to_device),
            "device to host": (size, buffers.to_host),
            "host both ways": (2 * size, buffers.both_ways),
        }
    metrics = []
    for quantity, (amount, step) in kinds.items():
        steps = group.agreed(workload.steps_for(options.seconds, step, group.sync))
        for subject in ("alone", "together") if group.world > 1 and quantity != "memory copy" else ("alone",):
            phase = f"{quantity} {subject}"
            if group.rank == 0:
                workload.say("phase", phase)
            samples = []
            for _ in range(options.repeats):
                for turn in range(group.world) if subject == "alone" else (group.rank,):
                    seconds = group.own_seconds(step, steps if group.rank == turn else 0)
                    if group.rank == turn:
                        samples.append(amount * steps / seconds)
            shown = None if quantity == "memory copy" else subject
            metrics.append(workload.metric(quantity, "GB/s", samples, subject=shown, device=name, phase=phase))
            if group.rank == 0:
                workload.say("phase")
    return metrics


def between(torch: Any, buffers: Buffers, options: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """Copy between each pair of cards, one way and both ways at once; return metrics and checks. Called on rank 0.

    Before a copy its target holds other bytes: copies that return zeros at full speed are known of boxes whose IOMMU
    redirects P2P (github.com/pytorch/pytorch/issues/84803).
    """
    count = torch.cuda.device_count()
    here = [buffers.source.to(f"cuda:{index}") for index in range(count)]
    there = [torch.empty_like(source) for source in here]
    streams = [torch.cuda.Stream(f"cuda:{index}") for index in range(count)]

    def sync() -> None:
        for index in range(count):
            torch.cuda.synchronize(index)

    def copy(a: int, b: int) -> None:
        with torch.cuda.stream(streams[a]):
            there[b].copy_(here[a], non_blocking=True)

    metrics, checks, size = [], [], buffers.count / 1e9
    for a in range(count):
        for b in range(count):
            if a == b:
                continue
            there[b].fill_(PATTERN)
            sync()
            copy(a, b)
            sync()
            checks.append(
                workload.check("device to device", buffers.count, buffers.wrong(there[b]), f"cuda:{a}", f"cuda:{b}")
            )
            ways: dict[str, tuple[float, Callable[[], None]]] = {"one way": (size, lambda a=a, b=b: copy(a, b))}
            if a < b:
                ways["both ways"] = 2 * size, lambda a=a, b=b: (copy(a, b), copy(b, a))  # type: ignore[func-returns-value]
            for subject, (amount, step) in ways.items():
                steps = workload.steps_for(options.seconds / 4, step, sync)
                samples = [amount * steps / workload.timed(step, sync, steps) for _ in range(options.repeats)]
                metrics.append(
                    workload.metric(
                        "device to device", "GB/s", samples, subject=subject, device=f"cuda:{a}", peer=f"cuda:{b}"
                    )
                )
    return metrics, checks


def main() -> dict[str, Any] | None:
    parser = workload.effort(__doc__)
    parser.add_argument("--near", default="", help="processors near each GPU, such as 0-15;16-31")
    options = parser.parse_args()
    import torch

    with ranks.joined("gloo") as group:
        bound = bind(options.near.split(";"), group.rank)
        if not group.gpu:
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        buffers = Buffers(torch, group)
        checks = [check for part in group.gathered(buffers.checks()) for check in part]
        metrics = [metric for part in group.gathered(measure_rank(buffers, options)) for metric in part]
        if group.gpu and group.world > 1:
            # only one rank copies between cards; the others hold no other memory of them
            pairs, compared = between(torch, buffers, options) if group.rank == 0 else ([], [])
            group.meet()
            metrics, checks = metrics + pairs, checks + compared
        work = {"bytes": buffers.count, "repeats": options.repeats, "near": group.gathered(bound)}
        return ranks.document(group, work, metrics, checks=checks)


if __name__ == "__main__":
    workload.run(main)
