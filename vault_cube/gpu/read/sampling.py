"""Throttle reasons over a while: how much of the time each held."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vault_cube.gpu.nvml.device import Nvml
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import readings

EVERY_S = 0.005
CHUNK_S = 0.5
"""The child samples by itself, since an exchange with it costs more than a sample; so long, then it reports."""


def throttle_masks(session: Session, indices: Sequence[int], window_s: float) -> dict[int, list[int]]:
    """Masks of these GPUs' throttle reasons, taken together every few milliseconds for so long. Raises NvmlProblem."""
    found: dict[int, list[int]] = {index: [] for index in indices}
    until = time.monotonic() + window_s
    while True:
        left = until - time.monotonic()
        for index, masks in session.ask(_sampled, list(indices), max(0.0, min(left, CHUNK_S))).items():
            found[index] += masks
        if time.monotonic() >= until:
            return {index: masks for index, masks in found.items() if masks}


def _sampled(nvml: Nvml, indices: list[int], window_s: float) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {index: [] for index in indices}
    until = time.monotonic() + window_s
    while True:
        for index in indices:
            device = nvml.device(index)
            device.begin()
            mask = readings.throttle_mask(device)
            if mask is not None:
                found[index].append(mask)
        if time.monotonic() >= until:
            return found
        time.sleep(EVERY_S)
