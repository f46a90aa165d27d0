"""The ceilings of a machine: matrix products by precision, memory bandwidth, copies. Run it with PyTorch's Python.

Measures one device after the other. FLOP of a product of n x n matrices: 2 n^3. Bytes of a copy within one memory: read
plus written, as STREAM counts them (McCalpin 1995); of a copy between memories: the bytes transferred.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import workload


def products(torch: Any, device: Any) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return the products to measure: precision -> side of the matrices, and a function that does one product."""
    gpu = device.type == "cuda"
    side = 8192 if gpu else 1024

    def product(dtype: Any, n: int = side) -> tuple[int, Callable[[], object]]:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        return n, lambda: torch.mm(a, b)

    if not gpu:
        return {"float32": product(torch.float32), "bfloat16": product(torch.bfloat16, 512)}
    by_precision = {
        "float32": product(torch.float32),
        "bfloat16": product(torch.bfloat16),
        "float16": product(torch.float16),
    }
    n, plain = product(torch.float32)

    def tf32() -> object:
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return plain()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    by_precision["tf32"] = n, tf32
    if torch.cuda.get_device_capability(device) >= (8, 9):
        eight = torch.float8_e4m3fn
        a = torch.randn(n, n, device=device).to(eight)
        # cuBLASLt requires the second factor in column-major order
        b = torch.randn(n, n, device=device).to(eight).t()
        scale = torch.ones((), device=device)
        by_precision["float8"] = (
            n,
            lambda: torch._scaled_mm(a, b, scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16),
        )
    return by_precision


def possible(torch: Any, work: Callable[[], object], sync: Callable[[], None]) -> str | None:
    """Try an operation; return why device or PyTorch do not support it (such as a precision), or None if they do."""
    try:
        work()
        sync()
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as err:
        if workload.kind_of(err) != "error":
            raise
        return workload.first_line(err)
    return None


def copies(torch: Any, device: Any, others: list[Any]) -> dict[str, tuple[float, Callable[[], object]]]:
    """Return the copies to measure: name -> bytes, and a function that does one copy. others: the other devices."""
    gpu = device.type == "cuda"
    # larger than any cache of the device: those of server CPUs are below 1.2 GiB, those of GPUs below 0.2 GiB
    count = (1 << 30) if gpu else (256 << 20)
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    by_name: dict[str, tuple[float, Callable[[], object]]] = {"memory": (2.0 * count, lambda: target.copy_(source))}
    if gpu:
        host = torch.ones(count, dtype=torch.uint8).pin_memory()
        by_name["host_to_device"] = count, lambda: target.copy_(host, non_blocking=True)
        by_name["device_to_host"] = count, lambda: host.copy_(source, non_blocking=True)
        for other in others:
            remote = torch.empty(count, dtype=torch.uint8, device=other)
            by_name[f"device_to_device_{device.index}_{other.index}"] = (
                count,
                lambda remote=remote: remote.copy_(source),
            )
    return by_name


def main() -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="approximate length of one timed run, seconds")
    options = parser.parse_args()

    import torch

    gpu = torch.cuda.is_available()
    devices = (
        [torch.device("cuda", index) for index in range(torch.cuda.device_count())] if gpu else [torch.device("cpu")]
    )
    if not gpu:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(1)
    metrics: dict[str, Any] = {}
    sides: dict[str, int] = {}
    unsupported: dict[str, str] = {}
    for index, device in enumerate(devices):

        def sync() -> None:
            if gpu:
                for each in devices:
                    torch.cuda.synchronize(each)

        factors = products(torch, device)
        sides = {name: n for name, (n, _) in factors.items()}
        operations = {
            **{f"matmul_{name}": ("TFLOP/s", 2 * n**3 / 1e12, work) for name, (n, work) in factors.items()},
            **{
                f"copy_{name}": ("GB/s", size / 1e9, work)
                for name, (size, work) in copies(torch, device, [d for d in devices if d != device]).items()
            },
        }
        del factors
        for number, (name, (unit, amount, work)) in enumerate(operations.items()):
            if why := possible(torch, work, sync):
                unsupported[name] = why
                continue
            steps = workload.steps_for(options.seconds, work, sync)
            samples = [amount * steps / workload.timed(work, sync, steps) for _ in range(options.repeats)]
            # number the names if there are several devices
            metrics[f"{name}_{index}" if len(devices) > 1 and "device_to_device" not in name else name] = (
                workload.metric(unit, samples)
            )
            workload.progress((index + (number + 1) / len(operations)) / len(devices), f"{device} {name}")
        # free this device's buffers before the next device is measured
        del operations, work
    return {
        "workload": {
            "sides": sides,
            "repeats": options.repeats,
            "devices": len(devices),
            "threads": torch.get_num_threads(),
            **({"not_measured": unsupported} if unsupported else {}),
        },
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
        "device": torch.cuda.get_device_name(devices[0]) if gpu else "cpu",
        "metrics": metrics,
    }


if __name__ == "__main__":
    workload.run(main)
