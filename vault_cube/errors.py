"""The exception for errors that are reported to the user."""

from vault_cube.redact import redacted


class VaultCubeError(Exception):
    """An error in one line: what went wrong, where (file, key), what to do. Salt modules turn it into an exit code.

    Credentials in addresses are removed from the message.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redacted(message))
