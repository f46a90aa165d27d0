"""The exception for errors that are reported to the user, and how errors are shown."""

from __future__ import annotations

import os

from vault_cube.redact import redacted


class VaultCubeError(Exception):
    """An error in one line: what went wrong, where (file, key), what to do. Salt modules turn it into an exit code.

    Credentials in addresses are removed from the message.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redacted(message))


def debugging() -> bool:
    """Return whether the environment variable VAULT_CUBE_DEBUG is set to anything but an empty string or 0."""
    return os.environ.get("VAULT_CUBE_DEBUG", "") not in ("", "0")


def shown(err: Exception) -> str:
    """Return an error as a user sees it: its message, and with VAULT_CUBE_DEBUG the traceback with all causes."""
    if not debugging():
        return str(err)
    import traceback

    return redacted(f"{err}\n{''.join(traceback.format_exception(err)).rstrip()}")
