"""Ask git about a checkout, only if the checkout is a repository of its own, and whatever git's settings are here."""

from __future__ import annotations

import os
from pathlib import Path

from vault_cube import process


def output(checkout: Path, *arguments: str) -> str | None:
    """Return the output of a git command in a checkout; None if it has no repository of its own, or git fails.

    A checkout that was unpacked below another repository would get that repository's commit and files.
    """
    top = _run(checkout, "rev-parse", "--show-toplevel")
    if top is None or Path(top.rstrip("\n")).resolve() != checkout.resolve():
        return None
    return _run(checkout, *arguments)


def _run(checkout: Path, *arguments: str) -> str | None:
    # A file system without modes shows all files as executable, which does not change an image. Without safe.directory,
    # git refuses to run as root in a checkout of another user. In a hook, GIT_DIR names the repository of the hook
    settings = ("-c", "safe.directory=*", "-c", "core.fileMode=false", "-c", "core.quotePath=false")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}
    try:
        command = ["git", *settings, "-C", str(checkout), *arguments]
        return process.run(command, env=environment, errors="surrogateescape").stdout
    except process.CommandFailed:
        return None
