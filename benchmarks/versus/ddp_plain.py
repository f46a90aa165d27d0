"""Compare our timed DDP loop with that of a plain torchrun script, on the same model in one process. Run by torchrun.

The two loops alternate, so that a noisy neighbour affects both. Prints one JSON document: samples/s of each, and the
ratio of every pair. A ratio of 1 means that the harness (barriers around the run, shared step function) costs nothing.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workloads"))
import ddp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()

    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    world = int(os.environ["WORLD_SIZE"])
    if gpu:
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True
    else:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world))
    dist.init_process_group("nccl" if gpu else "gloo")
    gloo = dist.new_group(backend="gloo")
    size = ddp.SIZES["transformer"]["gpu" if gpu else "cpu"]
    torch.manual_seed(1)
    inputs, targets = ddp.batch_of("transformer", size, size["batch"], device)
    sync = torch.cuda.synchronize if gpu else lambda: None

    wrapped = ddp.wrap(ddp.transformer(size).to(device), device)
    ours = ddp.stepper(wrapped, ddp.optimizer_of(wrapped), (inputs, targets), device)

    # the textbook loop: the same model in its own wrapper, with the step written out
    plain = DistributedDataParallel(ddp.transformer(size).to(device), device_ids=[device.index] if gpu else None)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-4, fused=True)
    criterion = torch.nn.CrossEntropyLoss()

    def textbook() -> float:
        sync()
        started = time.perf_counter()
        for _ in range(options.steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
                loss = criterion(plain(inputs), targets)
            loss.backward()
            optimizer.step()
        sync()
        return world * size["batch"] * options.steps / (time.perf_counter() - started)

    def meet() -> None:
        sync()
        dist.barrier(group=gloo)

    def harness() -> float:
        return world * size["batch"] * ddp.rate(ours, options.steps, options.steps, meet)

    pairs = []
    for turn in range(options.repeats + 1):
        # alternate the order, so that neither loop always runs with caches warmed by the other
        first, second = (harness, textbook) if turn % 2 else (textbook, harness)
        first_rate, second_rate = first(), second()
        if turn:
            pairs.append((first_rate, second_rate) if turn % 2 else (second_rate, first_rate))
    if dist.get_rank() == 0:
        print(json.dumps({"unit": "samples/s", "ours": [a for a, _ in pairs], "theirs": [b for _, b in pairs],
                          "ratio": [a / b for a, b in pairs]}))  # fmt: skip
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
