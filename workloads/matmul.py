"""Matrix products by precision, the ceiling of a card. Run it with PyTorch's Python; one card after the other.

The fastest shape is searched first: a fixed one costs up to a sixth of the speed (github.com/stas00/ml-engineering,
"Maximum Achievable Matmul FLOPS"). Each product is timed by itself, and the L2 cache is overwritten before it. FLOP of
a product of m x k and k x n: 2 m k n.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import workload

Shape = tuple[int, int, int]
Product = Callable[[], object]

SIDES = {
    # multiples of the tiles of all generations
    "cuda": (2048, 3072, 4096, 5120, 6144, 8192, 10240, 12288, 16384),
    "cpu": (256, 512, 1024),
}
START: dict[str, Shape] = {"cuda": (8192, 8192, 8192), "cpu": (512, 512, 512)}
L2_BYTES = 512 << 20
"""More than the L2 cache of any GPU (126 MB on a B200)."""


class Clock:
    """Times single products on a device, each with a cold L2 cache."""

    def __init__(self, torch: Any, device: Any) -> None:
        self.torch, self.device, self.gpu = torch, device, device.type == "cuda"
        self.cache = torch.empty(L2_BYTES if self.gpu else 0, dtype=torch.uint8, device=device)

    def seconds(self, product: Product, count: int) -> float:
        """Return the sum of the times of `count` products."""
        if not self.gpu:
            # a virtual machine does not show how large the processor's cache is
            return workload.timed(product, lambda: None, count)
        event = self.torch.cuda.Event
        pairs = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(count)]
        for before, after in pairs:
            self.cache.zero_()
            before.record()
            product()
            after.record()
        self.torch.cuda.synchronize(self.device)
        return float(sum(before.elapsed_time(after) for before, after in pairs)) / 1e3

    def count_for(self, product: Product, seconds: float) -> int:
        """Return how many products take about so many seconds, from 2 to 1000; warms up."""
        self.seconds(product, 2)
        # overwriting the cache takes longer than a small product does
        return min(1000, max(2, round(seconds * 2 / self.seconds(product, 2))))


def precisions(torch: Any, device: Any) -> dict[str, Callable[[Shape], Product]]:
    """Return how to make a product by precision; not every device has each of them."""

    def plain(dtype: Any, tf32: bool = False) -> Callable[[Shape], Product]:
        def make(shape: Shape) -> Product:
            m, k, n = shape
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a, b = torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype)
            out = torch.empty(m, n, device=device, dtype=dtype)
            return lambda: torch.mm(a, b, out=out)

        return make

    def eight_bits(shape: Shape) -> Product:
        m, k, n = shape
        a = torch.randn(m, k, device=device).to(torch.float8_e4m3fn)
        # cuBLASLt requires the second factor in column-major order
        b = torch.randn(n, k, device=device).to(torch.float8_e4m3fn).t()
        scale = torch.ones((), device=device)
        return lambda: torch._scaled_mm(a, b, scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16)

    both = {"float32": plain(torch.float32), "bfloat16": plain(torch.bfloat16)}
    if device.type == "cpu":
        return both
    return {**both, "float16": plain(torch.float16), "tf32": plain(torch.float32, tf32=True), "float8": eight_bits}


def why_not(torch: Any, make: Callable[[Shape], Product], clock: Clock) -> str | None:
    """Try a precision; return why device or PyTorch do not support it, or None if they do."""
    try:
        clock.seconds(make(START[clock.device.type]), 1)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as err:
        if workload.kind_of(err) != "error":
            raise
        return workload.first_line(err)
    return None


def shapes(start: Shape, sides: tuple[int, ...], speed: Callable[[Shape], float], passes: int = 2) -> Shape:
    """Return the fastest shape: vary one side after the other, and keep the best.

    speed: FLOP/s of a shape. passes: how often each side is varied; ends early if nothing becomes faster.
    """
    best, fastest = start, speed(start)
    for _ in range(passes):
        before = best
        for position in range(3):
            for side in sides:
                shape: Shape = (*best[:position], side, *best[position + 1 :])  # type: ignore[assignment]
                if shape != best and (reached := speed(shape)) > fastest:
                    best, fastest = shape, reached
        if best == before:
            break
    return best


def flop(shape: Shape) -> float:
    """Return the FLOP of a product."""
    return 2.0 * shape[0] * shape[1] * shape[2]


def warm(clock: Clock, product: Product, seconds: float) -> None:
    """Multiply for so many seconds, until the card has the temperature and the clock of continuous work."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        clock.seconds(product, 4)


def measure_device(
    torch: Any, device: Any, name: str, options: argparse.Namespace
) -> Iterator[tuple[str, Shape | None, Any]]:
    """Measure one card. Yields precision, shape and metric; for an unsupported one the precision, None and the reason.

    name: the card's, in the result.
    """
    clock = Clock(torch, device)
    for number, (precision, make) in enumerate(precisions(torch, device).items()):
        if reason := why_not(torch, make, clock):
            yield precision, None, reason
            continue

        def speed(shape: Shape, make: Callable[[Shape], Product] = make) -> float:
            product = make(shape)
            count = clock.count_for(product, options.seconds / 30)
            return flop(shape) * count / clock.seconds(product, count)

        shape = shapes(START[device.type], SIDES[device.type], speed)
        product = make(shape)
        # the first product warms up a cold card, the others bring it to their own power
        warm(clock, product, options.steady if number == 0 else options.steady / 4)
        count = clock.count_for(product, options.seconds)
        phase = f"matmul {precision} {name}"
        workload.say("phase", phase)
        samples = [flop(shape) * count / clock.seconds(product, count) / 1e12 for _ in range(options.repeats)]
        workload.say("phase")
        yield (
            precision,
            shape,
            workload.metric("matmul", "TFLOP/s", samples, subject=precision, device=name, phase=phase),
        )


def main() -> dict[str, Any]:
    options = workload.effort(__doc__).parse_args()
    import torch

    gpu = torch.cuda.is_available()
    if not gpu:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(1)
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())] if gpu else ["cpu"]
    metrics: list[dict[str, Any]] = []
    shapes_by_device: dict[str, dict[str, Shape]] = {}
    unsupported: dict[str, str] = {}
    for index, device in enumerate(map(torch.device, devices)):
        name = str(device)
        if gpu:
            torch.cuda.set_device(device)
        for number, (precision, shape, result) in enumerate(measure_device(torch, device, name, options)):
            if shape is None:
                unsupported[precision] = result
                continue
            shapes_by_device.setdefault(name, {})[precision] = shape
            metrics.append(result)
            workload.progress((index + min(1, (number + 1) / 5)) / len(devices), f"{name} {precision}")
    return {
        "workload": {
            "shapes": shapes_by_device,
            "repeats": options.repeats,
            "devices": len(devices),
            "threads": torch.get_num_threads(),
            "not_measured": unsupported,
        },
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
        "device": torch.cuda.get_device_name(0) if gpu else "cpu",
        "metrics": metrics,
    }


if __name__ == "__main__":
    workload.run(main)
