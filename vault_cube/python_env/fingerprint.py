"""Recognise an environment in which nothing was touched since its last comparison, without reading its files.

The kernel sets a file's ctime whenever its content or attributes change, and no program can set it back. The ctime of a
folder changes when an entry is created in it or removed from it. So names, inode numbers and ctimes are enough.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from vault_cube import process

log = logging.getLogger(__name__)

LIST = "find \"$1\" -mindepth 1 -printf '%i %C@ %P\\0' | LC_ALL=C sort -z | sha256sum"
DIGEST = re.compile(r"[0-9a-f]{64}")


class Fingerprint:
    """SHA-256 of the names, inode numbers and ctimes below a folder: now, and at the last comparison."""

    def __init__(self, folder: Path, index: Path) -> None:
        """Begin to list a folder in the background. Raises OSError if this machine cannot start a process.

        index: file with the fingerprint of the last comparison; it may be missing.
        """
        self._index = index
        quiet = {"stdin": process.DEVNULL, "stderr": process.DEVNULL}
        self._lister = process.start(["sh", "-c", LIST, "sh", folder], stdout=process.PIPE, text=True, **quiet)
        self._now: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether this machine has no record of an earlier comparison."""
        return not self._index.exists()

    def is_unchanged(self) -> bool:
        """Return whether nothing was touched since the last comparison; False if its record is damaged."""
        try:
            recorded = self._index.read_text()
        except (OSError, ValueError):
            return False
        return bool(DIGEST.fullmatch(recorded)) and recorded == self._current()

    def record(self) -> None:
        """Record that the folder, as it was listed, has no difference. Without a record, only time is lost."""
        try:
            self._index.parent.mkdir(parents=True, exist_ok=True)
            self._index.write_text(self._current())
        except OSError as err:
            log.debug("cannot record a comparison: %s", err)

    def forget(self) -> None:
        """Remove the record, because the folder is about to be changed on purpose."""
        self._current()
        self._index.unlink(missing_ok=True)

    def _current(self) -> str:
        if self._now is None:
            self._now = self._lister.communicate()[0].partition(" ")[0]
        return self._now
