"""Scaling of training under PyTorch's DistributedDataParallel (DDP). Run it with torchrun: NCCL on GPUs, gloo on a CPU.

Weak scaling, fixed batch per device: E = T_N / (N * T_1), T in samples/s. T_1 is the plain model on one device while
the others wait; it is measured on every device, and the fastest one counts: a slow device lowers E, whichever it is.
Two controls are measured between the same repeats. N independent copies at the same time give C_N:
E_shared = C_N / (N * T_1) shows the loss from heat, power and shared memory, E_comm = T_N / C_N the loss from
communication. E = E_shared * E_comm holds for each repeat.
Strong scaling, fixed global batch: E_strong = S_N / (N * T_1 at the global batch), that batch split over the devices.
Models run in PyTorch's eager mode, with DDP's default buckets: torch.compile would raise T_1 more than T_N.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import ranks
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


class Trial:
    """One model on all ranks: its steps, and the rates measured so far, in samples/s."""

    def __init__(self, name: str, group: ranks.Ranks) -> None:
        import torch

        self.name, self.group, self.device = name, group, group.device
        self.size = SIZES[name]["gpu" if group.gpu else "cpu"]
        self.batch = self.size["batch"]
        torch.manual_seed(1)
        make = {"transformer": transformer, "resnet": resnet}[name]
        plain = make(self.size).to(self.device)
        self.flops = flops_of(plain, name, self.size, self.device)
        self.parameters = sum(parameter.numel() for parameter in plain.parameters())
        counts = (self.batch, max(1, self.batch // group.world))
        data, part = (batch_of(name, self.size, count, self.device) for count in counts)
        wrapped = wrap(make(self.size).to(self.device), self.device)
        # weak and strong train the same model by turns: a second optimizer state would need as much memory again
        shared = optimizer_of(wrapped)
        self.plain = stepper(plain, optimizer_of(plain), data, self.device)
        self.weak, self.strong = (stepper(wrapped, shared, inputs, self.device) for inputs in (data, part))
        self.alone: list[list[float]] = [[] for _ in range(group.world)]
        self.rates: dict[str, list[float]] = {"concurrent": [], "weak": [], "strong": [], "steady": []}

    def calibrate(self, seconds: float) -> int:
        """Warm up, and return the number of steps that take about so many seconds."""
        for step in (self.weak, self.strong):
            for _ in range(3):
                step()
        self.group.meet()
        # all ranks calibrate at the same time, so that they are equally warm when the baseline is measured
        return self.group.agreed(workload.steps_for(seconds, self.plain, self.group.sync))

    def phase(self, kind: str) -> None:
        """Begin a phase, or end it with an empty kind."""
        if self.group.speaks:
            workload.say("phase", f"{self.name} {kind}" if kind not in ("", "steady") else kind)

    def repeat(self, steps: int) -> None:
        """Measure once: the plain model on each rank in turn, then on all at once, weak and strong scaling."""
        world = self.group.world
        for turn in range(world):
            self.phase("alone")
            seconds = self.group.seconds(self.plain, steps if self.group.rank == turn else 0)
            self.alone[turn].append(self.batch * steps / seconds)
        # strong: each rank trains its part of the batch, so the sum is one batch per step
        part = max(1, self.batch // world)
        for kind, step, samples in (
            ("concurrent", self.plain, world * self.batch),
            ("weak", self.weak, world * self.batch),
            ("strong", self.strong, world * part),
        ):
            self.phase(kind)
            self.rates[kind].append(samples * steps / self.group.seconds(step, steps))
        self.phase("")

    def steady(self, seconds: float, repeats: int) -> None:
        """Train on all devices without a pause, and time each part of it: a device that gets hot becomes slower."""
        world = self.group.world
        steps = self.group.agreed(max(3, round(seconds / repeats * self.rates["weak"][-1] / (world * self.batch))))
        self.phase("steady")
        for _ in range(repeats):
            self.rates["steady"].append(world * self.batch * steps / self.group.seconds(self.weak, steps))
        self.phase("")

    def workload(self, steps: int) -> dict[str, Any]:
        """Describe the model for the document."""
        return {
            **self.size,
            "parameters": self.parameters,
            "flop_per_sample": self.flops,
            "steps": steps,
            "batch_per_device": self.batch,
            "precision": "bfloat16 autocast" if self.group.gpu else "float32",
            "optimizer": "AdamW",
            "compiled": False,
        }


def metrics_of(
    name: str, alone: list[list[float]], rates: dict[str, list[float]], flops: float, devices: list[str]
) -> list[dict[str, Any]]:
    """Return the metrics of one model. Efficiencies are computed per repeat, so that their spread is visible.

    alone: samples/s of each repeat of the plain model, by rank. rates: the same of all devices together, by kind.
    flops: FLOP per sample. devices: name of each rank's device.
    """
    world = len(alone)
    fastest = [max(repeat) for repeat in zip(*alone, strict=True)]
    slowest = [min(repeat) for repeat in zip(*alone, strict=True)]
    concurrent, weak, strong = rates["concurrent"], rates["weak"], rates["strong"]

    def ratio(quantity: str, above: list[float], below: list[float], factor: float = 1.0) -> dict[str, Any]:
        samples = [a / (factor * b) for a, b in zip(above, below, strict=True)]
        return workload.metric(quantity, "ratio", samples, subject=name)

    scaling = [
        ratio("efficiency", weak, fastest, world),
        ratio("efficiency shared", concurrent, fastest, world),
        ratio("efficiency communication", weak, concurrent),
        ratio("efficiency strong", strong, fastest, world),
        ratio("slowest of fastest", slowest, fastest),
    ]
    together = [
        workload.metric(f"training {kind}", "samples/s", samples, subject=name, phase=f"{name} {kind}")
        for kind, samples in (("concurrent", concurrent), ("weak", weak), ("strong", strong))
    ]
    steady = workload.metric("training steady", "samples/s", rates["steady"], subject=name, phase="steady")
    return [
        # leave scaling out for one device: its ratios would always be 1
        *(scaling if world > 1 else []),
        *(
            workload.metric("training alone", "samples/s", samples, subject=name, device=device, phase=f"{name} alone")
            for device, samples in zip(devices, alone, strict=True)
        ),
        *together,
        *([steady] if rates["steady"] else []),
        workload.metric(
            "model flops",
            "TFLOP/s per device",
            [rate * flops / world / 1e12 for rate in weak],
            subject=name,
            phase=f"{name} weak",
        ),
    ]


def measure(
    name: str, options: argparse.Namespace, group: ranks.Ranks, devices: list[str], share: tuple[float, float]
) -> Any:
    """Measure one model; return its description and its metrics.

    devices: name of each rank's device. share: start and end of this model's part of the progress, 0 to 1.
    """
    trial = Trial(name, group)
    steps = trial.calibrate(options.seconds)
    for repeat in range(options.repeats):
        trial.repeat(steps)
        if group.speaks:
            done = share[0] + (share[1] - share[0]) * (repeat + 1) / options.repeats
            workload.progress(done, f"{name}, repeat {repeat + 1} of {options.repeats}")
    trial.steady(options.steady, options.repeats)
    return trial.workload(steps), metrics_of(name, trial.alone, trial.rates, trial.flops, devices)


def main() -> dict[str, Any] | None:
    parser = workload.effort(__doc__)
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    options = parser.parse_args()
    import torch
    import torch.distributed as dist

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    with ranks.joined() as group:
        models, metrics, count = {}, [], len(options.models)
        boxes = group.boxes()
        names = list(dict.fromkeys(box for box, _ in boxes))
        devices = [group.name(rank) for rank in range(group.world)]
        if len(names) > 1:
            devices = [f"{box} {group.device.type}:{local}" for box, local in boxes]
            # the pillars of two boxes may differ, and all have to do the same
            options.repeats = group.agreed(options.repeats)
        for index, name in enumerate(options.models):
            models[name], measured = measure(name, options, group, devices, (index / count, (index + 1) / count))
            metrics += measured
        work = {"backend": dist.get_backend(), "repeats": options.repeats, "models": models}
        if len(names) > 1:
            work["boxes"] = names
        return ranks.document(group, work, metrics)


if __name__ == "__main__":
    workload.run(main)
