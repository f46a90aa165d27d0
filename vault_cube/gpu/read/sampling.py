"""Sample throttle reasons over a time window."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vault_cube.gpu.nvml.device import Nvml
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import readings

EVERY_S = 0.005
CHUNK_S = 0.5
"""Time for which the child samples before it reports, because one exchange with it takes longer than one sample."""


def throttle_masks(session: Session, indices: Sequence[int], window_s: float) -> dict[int, list[int]]:
    """Sample the throttle masks of some GPUs every few milliseconds. window_s: duration. Raises NvmlProblem."""
    samples: dict[int, list[int]] = {index: [] for index in indices}
    until = time.monotonic() + window_s
    while True:
        left = until - time.monotonic()
        for index, masks in session.ask(_sampled, list(indices), max(0.0, min(left, CHUNK_S))).items():
            samples[index] += masks
        if time.monotonic() >= until:
            return {index: masks for index, masks in samples.items() if masks}


def _sampled(nvml: Nvml, indices: list[int], window_s: float) -> dict[int, list[int]]:
    samples: dict[int, list[int]] = {index: [] for index in indices}
    until = time.monotonic() + window_s
    while True:
        for index in indices:
            device = nvml.device(index)
            device.begin()
            mask = readings.throttle_mask(device)
            if mask is not None:
                samples[index].append(mask)
        if time.monotonic() >= until:
            return samples
        time.sleep(EVERY_S)
