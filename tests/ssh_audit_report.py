"""Read the report of ssh-audit, and the warnings that were chosen."""

from __future__ import annotations

from typing import Any

# sshd offers a post-quantum key exchange first; clients that have none, such as programs in Go, need curve25519
CHOSEN = {
    (name, "warn", "does not provide protection against post-quantum attacks")
    for name in ("curve25519-sha256", "curve25519-sha256@libssh.org")
}


def unwanted(report: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Return the algorithms that ssh-audit calls a failure or a warning, with level and reason, but the chosen ones."""
    return {
        (entry["algorithm"], level, note)
        for kind in ("kex", "key", "enc", "mac")
        for entry in report[kind]
        for level in ("fail", "warn")
        for note in entry.get("notes", {}).get(level, ())
    } - CHOSEN
