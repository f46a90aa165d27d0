"""Run other programs of the box. Not with vault_cube.process, which the copy in the image does not have."""

from __future__ import annotations

import subprocess  # noqa: TID251
from collections.abc import Sequence
from pathlib import Path

SECONDS = 60
"""Time limit, in seconds."""


def output(command: Sequence[str | Path], stdin: bytes | None = None) -> bytes | None:
    """Run a program. Returns its output; None if it is missing, fails or takes too long."""
    try:
        ran = subprocess.run(command, input=stdin or b"", capture_output=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout if ran.returncode == 0 else None
