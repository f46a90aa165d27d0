"""Keep the PCIe links of some GPUs busy: a separate program that uses the CUDA driver's API.

Run as `copying.py SECONDS NAME=BUS_ID…`; prints one line `NAME ready`, or `NAME reason`, for each GPU. CUDA
numbers the GPUs in another order than NVML, so each is opened by its PCI address. The functions are those of cuda.h
(docs.nvidia.com/cuda/cuda-driver-api). The library is part of the driver; no toolkit is needed.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable

BYTES = 64 << 20


def main(seconds: float, gpus: dict[str, str]) -> None:
    """Copy to the GPUs until the time is over. seconds: duration. gpus: name → PCI address."""
    # the variable could hide GPUs
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        _checked(cuda, "cuInit", 0)
    except (OSError, RuntimeError) as err:
        for name in gpus:
            print(name, err, flush=True)
        return
    copies: list[Callable[[], None]] = []
    for name, bus_id in gpus.items():
        try:
            copies.append(_copier(cuda, bus_id))
            print(name, "ready", flush=True)
        except RuntimeError as err:
            print(name, err, flush=True)
    until = time.monotonic() + seconds
    while copies and time.monotonic() < until:
        for copy in copies:
            copy()


def _copier(cuda: ctypes.CDLL, bus_id: str) -> Callable[[], None]:
    """Allocate memory on both sides of a GPU's link. Returns a function that copies it."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    here, there = ctypes.c_void_p(), ctypes.c_uint64()
    size = ctypes.c_size_t(BYTES)
    _checked(cuda, "cuDeviceGetByPCIBusId", ctypes.byref(device), ctypes.c_char_p(bus_id.encode()))
    _checked(cuda, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    _checked(cuda, "cuCtxSetCurrent", context)
    # pinned memory, which the GPU reads itself; copies from ordinary memory wait for the processor
    _checked(cuda, "cuMemHostAlloc", ctypes.byref(here), size, 0)
    _checked(cuda, "cuMemAlloc_v2", ctypes.byref(there), size)

    def copy() -> None:
        _checked(cuda, "cuCtxSetCurrent", context)
        _checked(cuda, "cuMemcpyHtoD_v2", there, here, size)

    copy()
    return copy


def _checked(cuda: ctypes.CDLL, function: str, *args: object) -> None:
    code = getattr(cuda, function)(*args)
    if code:
        raise RuntimeError(f"{function}: CUDA error {code}")


if __name__ == "__main__":
    main(float(sys.argv[1]), {name: bus_id for name, _, bus_id in (word.partition("=") for word in sys.argv[2:])})
