"""The devices that are measured, and their sensors; without a GPU, the processor."""

from __future__ import annotations

from typing import Any

from vault_cube.bench.sensors import Processor, Reading


class Hardware:
    """A machine without a GPU; the one with GPUs is made from it."""

    gpus: list[dict[str, Any]] = []  # noqa: RUF012 never written to
    driver: str | None = None
    simulated = False

    def __init__(self) -> None:
        self._processor = Processor()

    def read(self) -> Reading:
        """One reading of all sensors."""
        return self._processor.read()

    def busy(self, above: float) -> list[str]:
        """Why the GPUs are not fit to be measured, a line each. above: the share of time at which one is in use."""
        return []
