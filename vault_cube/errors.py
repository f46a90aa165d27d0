"""The exception for errors that are reported to the user."""


class VaultCubeError(Exception):
    """An error in one line: what went wrong, where (file, key), what to do. Salt modules turn it into an exit code."""
