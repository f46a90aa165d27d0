"""The one exception that is meant for a person."""


class VaultCubeError(Exception):
    """One line: what went wrong, where (file, key), what to do. Salt's side turns it into an exit code."""
