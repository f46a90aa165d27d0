"""Stores the XIDs of this boot between two readings, because searching the journal of a whole boot takes seconds."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vault_cube.gpu.read import kernel_log
from vault_cube.gpu.read.host import Host

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Xid

OVERLAP_S = 120
"""Entries may reach the journal later than their timestamp."""


class XidMemory:
    """The XIDs that were read before, in a file. A file that is missing, malformed or of another boot is ignored."""

    def __init__(self, machine: Host, file: Path) -> None:
        self._machine, self._file = machine, file
        self._boot = machine.text("/proc/sys/kernel/random/boot_id") or ""
        self._now = time.time()
        self._since, self._known = self._read()

    def begin(self) -> kernel_log.Reading | kernel_log.Lines | None:
        """Start to read the log since the last reading; the first time, this boot's whole log."""
        return kernel_log.begin(self._machine, since=self._since)

    def xids(self, begun: kernel_log.Reading | kernel_log.Lines | None) -> list[Xid] | None:
        """Return all XIDs of this boot, oldest first, as from `kernel_log.xids`; None if the log cannot be read now."""
        new = kernel_log.xids(begun)
        if new is None:
            return None
        merged = {_key(entry): entry for entry in (*self._known, *new)}
        entries = sorted(merged.values(), key=lambda entry: entry["at"])
        self._write(entries)
        return entries

    def _read(self) -> tuple[float | None, list[Xid]]:
        try:
            stored = json.loads(self._file.read_text())
            if stored["boot"] != self._boot:
                return None, []
            for entry in stored["xids"]:
                _key(entry)
            return float(stored["read"]) - OVERLAP_S, list(stored["xids"])
        except (OSError, ValueError, KeyError, TypeError):
            return None, []

    def _write(self, entries: list[Xid]) -> None:
        """Store the entries. If the folder is not writable, the next reading only takes longer."""
        new = self._file.with_suffix(".new")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps({"boot": self._boot, "read": self._now, "xids": entries}))
            new.replace(self._file)


def _key(entry: Xid) -> tuple[Any, ...]:
    return entry["at"], entry["bus_id"], entry["xid"], entry["message"]
