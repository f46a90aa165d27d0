"""Compare Debian versions."""

from __future__ import annotations

from vault_cube import process


def dpkg_older(version: str, other: str) -> bool:
    """Return whether a Debian version is older than another, in dpkg's order."""
    return process.run(["dpkg", "--compare-versions", version, "lt", other], ok=None).returncode == 0
