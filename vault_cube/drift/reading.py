"""Read files of a tree that may have been tampered with: a pipe or a device in the place of a file must not block."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def content(file: Path) -> bytes:
    """Read a regular file, also through links. Raises OSError, also for anything that is not a regular file."""
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as opened:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        return opened.read()


def text(file: Path) -> str:
    """Read a regular file as text; bytes that are not UTF-8 are kept. Raises OSError."""
    return content(file).decode(errors="surrogateescape")
