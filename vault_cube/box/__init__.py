"""Checks of the layers: what each layer must show, with thresholds from the pillar.

Each layer has a module with `cases(place)`, a generator of verdicts.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where cases run: a live box, or a tree without a running system."""

    pillar: Mapping[str, Any]
    live: bool

    @cached_property
    def gpus(self) -> int:
        """How many GPUs answer; 0 without a driver that does."""
        from vault_cube.gpu.nvml.session import Session
        from vault_cube.gpu.read.facts import facts

        with Session(self.pillar["gpu"]["answer_s"]) as session:
            return sum("problem" not in one for one in facts(session)["devices"])


def command(words: Sequence[str], seconds: int, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command for at most so many seconds; what is missing or too slow is a failed command, not an exception."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False, **options)
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"{words[0]}: no answer within {seconds} s")


def last_line(text: str) -> str:
    """The last line of what a program printed, shortened in its middle: programs say last what the matter is."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return last if len(last) <= 300 else f"{last[:100]} … {last[-197:]}"


def read_json(file: Path) -> Any:
    """A JSON file's content, nothing when there is none or it is broken."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None
