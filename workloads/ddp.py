"""Scaling of training under PyTorch's DistributedDataParallel (DDP). Run it with torchrun: NCCL on GPUs, gloo on a CPU.

Weak scaling, fixed batch per device: E = T_N / (N * T_1), T in samples/s, T_1 the plain model on one device.
Two controls are measured between the same repeats. N independent copies at the same time give C_N:
E_shared = C_N / (N * T_1) shows the loss from heat, power and shared memory, E_comm = T_N / C_N the loss from
communication. E = E_shared * E_comm holds for each repeat.
Strong scaling, fixed global batch: E_strong = S_N / (N * T_1 at the global batch), that batch split over the devices.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import workload

# sizes of the models on a GPU and on a CPU; fixed, so that results can be compared
SIZES = {
    "transformer": {
        # 235,358,208 parameters; with activations and AdamW's state about 24 GB, for a card of 32
        "gpu": {"layers": 16, "width": 1024, "heads": 16, "vocabulary": 32000, "tokens": 1024, "batch": 16},
        "cpu": {"layers": 2, "width": 256, "heads": 4, "vocabulary": 1000, "tokens": 32, "batch": 32},
    },
    "resnet": {
        # ResNet-50 (He et al. 2015, table 1): 25,557,032 parameters
        "gpu": {"blocks": [3, 4, 6, 3], "width": 64, "classes": 1000, "pixels": 224, "batch": 128},
        "cpu": {"blocks": [1, 1, 1, 1], "width": 16, "classes": 10, "pixels": 32, "batch": 64},
    },
}


def transformer(size: dict[str, Any]) -> Any:
    """Return a decoder-only transformer: pre-norm, learned positions, output weights shared with the token embedding.

    size: an entry of `SIZES`.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    width, heads = size["width"], size["heads"]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            batch, tokens, _ = x.shape
            parts = self.qkv(self.norms[0](x)).view(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            attention = functional.scaled_dot_product_attention(*parts, is_causal=True)
            x = x + self.out(attention.transpose(1, 2).reshape(batch, tokens, width))
            return x + self.mlp(self.norms[1](x))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(size["vocabulary"], width)
            self.positions = nn.Parameter(torch.zeros(size["tokens"], width))
            self.blocks = nn.Sequential(*(Block() for _ in range(size["layers"])))
            self.norm = nn.LayerNorm(width)

        def forward(self, ids: Any) -> Any:
            x = self.norm(self.blocks(self.embedding(ids) + self.positions))
            return functional.linear(x, self.embedding.weight).flatten(0, 1)

    return Transformer()


def resnet(size: dict[str, Any]) -> Any:
    """Return a ResNet of bottleneck blocks with the stride in the 3x3 convolution (torchvision's v1.5).

    The memory format is channels last, the native layout of tensor cores for images (PyTorch's tutorial "Channels Last
    Memory Format"). size: an entry of `SIZES`.
    """
    import torch
    from torch import nn

    def convolution(inner: int, outer: int, kernel: int, stride: int = 1) -> list[Any]:
        return [nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outer)]

    class Bottleneck(nn.Module):
        def __init__(self, inner: int, width: int, stride: int) -> None:
            super().__init__()
            self.way = nn.Sequential(
                *convolution(inner, width, 1),
                nn.ReLU(True),
                *convolution(width, width, 3, stride),
                nn.ReLU(True),
                *convolution(width, 4 * width, 1),
            )
            same = inner == 4 * width and stride == 1
            self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(inner, 4 * width, 1, stride))
            self.relu = nn.ReLU(True)

        def forward(self, x: Any) -> Any:
            return self.relu(self.way(x) + self.shortcut(x))

    width = size["width"]
    layers = [*convolution(3, width, 7, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    channels = width
    for stage, blocks in enumerate(size["blocks"]):
        inner = width * 2**stage
        for block in range(blocks):
            layers.append(Bottleneck(channels, inner, 2 if stage and not block else 1))
            channels = 4 * inner
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, size["classes"])]
    return nn.Sequential(*layers, *head).to(memory_format=torch.channels_last)


def batch_of(name: str, size: dict[str, Any], count: int, device: Any) -> tuple[Any, Any]:
    """Return random inputs and targets for `count` samples. They are reused, so no data loader is measured."""
    import torch

    if name == "transformer":
        shape = (count, size["tokens"])
        ids = torch.randint(0, size["vocabulary"], shape, device=device)
        return ids, torch.randint(0, size["vocabulary"], (count * size["tokens"],), device=device)
    images = torch.randn(count, 3, size["pixels"], size["pixels"], device=device)
    images = images.to(memory_format=torch.channels_last)
    return images, torch.randint(0, size["classes"], (count,), device=device)


def optimizer_of(model: Any) -> Any:
    """Return AdamW with its update fused into one kernel."""
    import torch

    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def stepper(model: Any, optimizer: Any, data: tuple[Any, Any], device: Any) -> Callable[[], None]:
    """Return a function that does one training step; the forward pass is in bfloat16 on a GPU, in float32 on a CPU."""
    import torch

    loss, (inputs, targets) = torch.nn.CrossEntropyLoss(), data

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            value = loss(model(inputs), targets)
        value.backward()
        optimizer.step()

    return step


def flops_of(model: Any, name: str, size: dict[str, Any], device: Any) -> float:
    """Return the FLOP of one sample's forward and backward pass, as PyTorch counts them over the executed operators.

    Matrix products and convolutions count (2 per multiply-add), and attention in full, without the half that a causal
    mask could save, as in PaLM's MFU (Chowdhery et al. 2022, appendix B). Recomputation does not count.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    inputs, targets = batch_of(name, size, 2, device)
    # the counter does not support the CPU's fused attention, so use the unfused one
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 2


def wrap(model: Any, device: Any) -> Any:
    """Wrap a model in DDP."""
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def rate(step: Callable[[], None], own: int, steps: int, meet: Callable[[], None]) -> float:
    """Return steps per second, from the common start of all ranks to the end of the last rank.

    own: number of steps of this rank, `steps` or 0. meet: waits for the device and for all ranks.
    """
    meet()
    started = time.perf_counter()
    for _ in range(own):
        step()
    meet()
    return steps / (time.perf_counter() - started)


def measure(
    name: str, options: argparse.Namespace, device: Any, gloo: Any, share: tuple[float, float]
) -> dict[str, Any]:
    """Measure one model: calibrate, then `repeats` rounds of solo, concurrent, weak and strong, interleaved.

    gloo: process group for barriers and broadcasts on the CPU. share: start and end of this model's part of the
    progress, 0 to 1. Returns `workload` and `metrics` of the result.
    """
    import torch
    import torch.distributed as dist

    rank, world = dist.get_rank(), dist.get_world_size()
    size = SIZES[name]["gpu" if device.type == "cuda" else "cpu"]
    batch = size["batch"]
    torch.manual_seed(1)
    make = {"transformer": transformer, "resnet": resnet}[name]
    plain = make(size).to(device)
    flops = flops_of(plain, name, size, device)
    parameters = sum(parameter.numel() for parameter in plain.parameters())
    data, part = (batch_of(name, size, count, device) for count in (batch, max(1, batch // world)))
    wrapped = wrap(make(size).to(device), device)
    # weak and strong train the same model by turns: a second optimizer state would need as much memory again
    alone, shared = stepper(plain, optimizer_of(plain), data, device), optimizer_of(wrapped)
    weak, strong = (stepper(wrapped, shared, inputs, device) for inputs in (data, part))

    def sync() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def meet() -> None:
        sync()
        dist.barrier(group=gloo)

    for step in (weak, strong):
        for _ in range(3):
            step()
    meet()
    # all ranks calibrate at the same time, so that rank 0 is not the only warm one when the solo baseline is measured
    counts = torch.tensor([workload.steps_for(options.seconds, alone, sync)])
    dist.broadcast(counts, 0, group=gloo)
    steps = int(counts)

    rates: dict[str, list[float]] = {"solo": [], "concurrent": [], "weak": [], "strong": []}
    for repeat in range(options.repeats):
        rates["solo"].append(batch * rate(alone, steps if rank == 0 else 0, steps, meet))
        rates["concurrent"].append(world * batch * rate(alone, steps, steps, meet))
        rates["weak"].append(world * batch * rate(weak, steps, steps, meet))
        rates["strong"].append(world * part[0].shape[0] * rate(strong, steps, steps, meet))
        if rank == 0:
            done = share[0] + (share[1] - share[0]) * (repeat + 1) / (options.repeats + 1)
            workload.progress(done, f"{name}, repeat {repeat + 1} of {options.repeats}")
    if rank == 0:
        workload.say("phase", "steady")
    # train on all devices without a pause; utilisation, power and clocks are read in this phase
    steady = max(3, round(options.steady * rates["weak"][-1] / (world * batch)))
    agreed = torch.tensor([steady])
    dist.broadcast(agreed, 0, group=gloo)
    meet()
    for _ in range(int(agreed)):
        weak()
    meet()
    if rank == 0:
        workload.say("phase")
    return {
        "workload": {
            **size,
            "parameters": parameters,
            "flop_per_sample": flops,
            "steps": steps,
            "batch_per_device": batch,
            "precision": "bfloat16 autocast" if device.type == "cuda" else "float32",
            "optimizer": "AdamW",
        },
        "metrics": metrics_of(name, rates, world, flops),
    }


def metrics_of(name: str, rates: dict[str, list[float]], world: int, flops: float) -> dict[str, Any]:
    """Return the metrics of one model. Efficiencies are computed per repeat, so that their spread is visible.

    rates: samples/s of each repeat, by kind. world: number of devices. flops: FLOP per sample.
    """
    solo, concurrent, weak, strong = rates["solo"], rates["concurrent"], rates["weak"], rates["strong"]
    scaling = {
        "efficiency": ("ratio", [w / (world * s) for w, s in zip(weak, solo, strict=True)]),
        "efficiency_shared": ("ratio", [c / (world * s) for c, s in zip(concurrent, solo, strict=True)]),
        "efficiency_communication": ("ratio", [w / c for w, c in zip(weak, concurrent, strict=True)]),
        "efficiency_strong": ("ratio", [n / (world * s) for n, s in zip(strong, solo, strict=True)]),
    }
    metrics = {
        # leave scaling out for one device: its ratios would always be 1
        **(scaling if world > 1 else {}),
        "solo": ("samples/s", solo),
        "concurrent": ("samples/s", concurrent),
        "weak": ("samples/s", weak),
        "strong": ("samples/s", strong),
        "model_flops": ("TFLOP/s per device", [w * flops / world / 1e12 for w in weak]),
    }
    return {f"{name}_{key}": workload.metric(unit, values) for key, (unit, values) in metrics.items()}


def main() -> dict[str, Any] | None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="approximate length of one timed run, seconds")
    parser.add_argument(
        "--steady", type=float, default=10.0, help="length of the run in which sensors are read, seconds"
    )
    options = parser.parse_args()

    import torch
    import torch.distributed as dist

    gpu = torch.cuda.is_available()
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    else:
        # divide the cores among the workers, so that their threads do not compete for a core
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // int(os.environ["WORLD_SIZE"])))
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        gloo = dist.new_group(backend="gloo")
        world, parts, count = dist.get_world_size(), {}, len(options.models)
        for index, name in enumerate(options.models):
            parts[name] = measure(name, options, device, gloo, (index / count, (index + 1) / count))
        if dist.get_rank():
            return None
        return {
            "workload": {
                "backend": dist.get_backend(),
                "devices": world,
                "threads_per_device": torch.get_num_threads(),
                "repeats": options.repeats,
                "models": {name: part["workload"] for name, part in parts.items()},
            },
            "versions": {
                "torch": torch.__version__,
                "cuda": torch.version.cuda,
                "nccl": ".".join(map(str, torch.cuda.nccl.version())) if gpu else None,
            },
            "device": torch.cuda.get_device_name(device) if gpu else "cpu",
            "metrics": {key: value for part in parts.values() for key, value in part["metrics"].items()},
        }
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    workload.run(main)
