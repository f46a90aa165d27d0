"""Compare Debian versions."""

from __future__ import annotations

import subprocess


def dpkg_older(one: str, two: str) -> bool:
    """Return whether a Debian version is older than another, in dpkg's order."""
    return subprocess.run(["dpkg", "--compare-versions", one, "lt", two], check=False).returncode == 0
