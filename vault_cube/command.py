"""Run a command with a time limit, for checks: a missing or hanging program is an observation, not an error."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any


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
