"""Burn in one device: multiply matrices without a pause, and compare every product. Run it with PyTorch's Python.

The first product is checked against float64 on the host. Each later one must equal it bit for bit; it is compared when
its buffer is reused, one round of all buffers later, or at the end (SIGTERM). Prints one JSON line per second on
stdout: products, TFLOP/s, wrong values, seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from typing import Any

import workload


def multiply(torch: Any, a: Any, b: Any, out: Any) -> None:
    """Compute one product; a function of its own, so that a test can plant a wrong value."""
    torch.mm(a, b, out=out)


def checked(torch: Any, a: Any, b: Any, product: Any) -> float:
    """Return the largest deviation of some rows from float64 on the host, relative to the product's largest value."""
    rows = torch.arange(0, a.shape[0], max(1, a.shape[0] // 16))
    exact = a[rows.to(a.device)].cpu().double() @ b.cpu().double()
    return float((product[rows.to(a.device)].cpu().double() - exact).abs().max() / exact.abs().max())


def burn(torch: Any, device: Any, memory: float, emit: Any, ended: list[int]) -> None:
    """Multiply and compare until `ended` has an entry.

    memory: share of the free memory to fill, 0 to 1. emit: called with each line of the report, a dictionary. Raises
    ArithmeticError if the first product is wrong.
    """
    gpu = device.type == "cuda"
    side, dtype = (8192, torch.bfloat16) if gpu else (1024, torch.float32)
    torch.manual_seed(1)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    reference = torch.empty_like(a)
    multiply(torch, a, b, reference)
    # bfloat16 keeps 8 bits: rounding is off by at most 2^-8 of a value; float32 sums of 1024 stay below 1e-5
    deviation, allowed = checked(torch, a, b, reference), 2**-7 if gpu else 1e-5
    if deviation > allowed:
        raise ArithmeticError(
            f"the first product is off by {deviation:.2e} of its largest value; at most {allowed:.2e} is allowed"
        )
    free = torch.cuda.mem_get_info(device)[0] if gpu else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    count = max(2, int(memory * free / (reference.numel() * reference.element_size())))
    buffers = [torch.empty_like(reference) for _ in range(count)]
    wrong = torch.zeros((), dtype=torch.int64, device=device)
    products, turn, last = 0, 0, time.monotonic()

    def counts(seconds: float) -> dict[str, Any]:
        return {"products": products, "wrong": int(wrong), "seconds": round(seconds, 3)}

    emit({"state": "burning", "buffers": count, "bytes": count * reference.numel() * reference.element_size()})
    while not ended:
        # compare the oldest buffer first, so that it was in memory for a whole round and memory errors show as well
        buffer = buffers[turn % count]
        if turn >= count:
            wrong += (buffer != reference).sum()
        multiply(torch, a, b, buffer)
        turn += 1
        products += 1
        if gpu and turn % 8 == 0:
            torch.cuda.synchronize(device)
        now = time.monotonic()
        if now - last >= 1 and (not gpu or turn % 8 == 0):
            emit({**counts(now - last), "tflops": 2 * side**3 * products / (now - last) / 1e12})
            wrong.zero_()
            products, last = 0, now
    for buffer in buffers[:turn]:
        wrong += (buffer != reference).sum()
    emit(counts(time.monotonic() - last))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:N")
    parser.add_argument("--memory", type=float, default=0.1, help="share of the free memory that is filled")
    options = parser.parse_args()
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    # as in workload.run: reserve stdout for the JSON lines
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def emit(line: dict[str, Any]) -> None:
        try:
            out.write(json.dumps(line) + "\n")
        except BrokenPipeError:
            os._exit(0)

    try:
        import torch

        if options.device == "cpu":
            torch.set_num_threads(len(os.sched_getaffinity(0)))
        burn(torch, torch.device(options.device), options.memory, emit, ended)
    except Exception as err:
        emit({"error": {"kind": workload.kind_of(err), "message": workload.first_line(err)}})
        sys.stderr.write(f"{err}\n")
        os._exit(1)


if __name__ == "__main__":
    main()
