"""The checks of each layer, with thresholds from the pillar.

Each layer has a module with `CHECKS`: functions of a `Place` that return a verdict or yield several.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vault_cube.settings import Settings
from vault_cube.verdicts import NotApplicable


@dataclass(frozen=True)
class Place:
    """The environment in which checks run: a live box, or a tree without a running system."""

    settings: Settings
    live: bool

    @cached_property
    def gpus(self) -> int:
        """Number of GPUs that answer; 0 without a working driver."""
        from vault_cube.gpu.nvml.session import Session
        from vault_cube.gpu.read.facts import facts

        with Session(self.settings.gpu.answer_s) as session:
            return sum("problem" not in device for device in facts(session)["devices"])

    def require_running_system(self) -> None:
        """Raise NotApplicable in a tree, where no service and no driver runs."""
        if not self.live:
            raise NotApplicable("needs a running system")


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; None if the file is missing or malformed."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None
