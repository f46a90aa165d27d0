"""The checks of each layer, with thresholds from the pillar.

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
    """The environment in which checks run: a live box, or a tree without a running system."""

    pillar: Mapping[str, Any]
    live: bool

    @cached_property
    def gpus(self) -> int:
        """Number of GPUs that answer; 0 without a working driver."""
        from vault_cube.gpu.nvml.session import Session
        from vault_cube.gpu.read.facts import facts

        with Session(self.pillar["gpu"]["answer_s"]) as session:
            return sum("problem" not in device for device in facts(session)["devices"])


def command(words: Sequence[str], seconds: int, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command with a time limit, in seconds.

    Returns status and output: status 127 for a missing program and 124 for a timeout, with a message in stderr. Raises
    neither error.
    """
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False, **options)
    except FileNotFoundError:
        return subprocess.CompletedProcess(words, 127, "", f"{words[0]}: not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"{words[0]}: no answer within {seconds} s")


def last_line(text: str) -> str:
    """Return the last line of a program's output, which usually has the cause of an error; shorten a long one.

    At most 300 characters: the beginning and the end of the line.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return last if len(last) <= 300 else f"{last[:100]} … {last[-197:]}"


def read_json(file: Path) -> Any:
    """Return the content of a JSON file; None if the file is missing or malformed."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None
