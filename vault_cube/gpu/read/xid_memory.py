"""XIDs of this boot, kept from one reading to the next: to search a boot's whole journal takes seconds."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from vault_cube.gpu.read import kernel_log
from vault_cube.gpu.read.host import Host

OVERLAP_S = 120
"""Entries may reach the journal a little later than their time says."""


class XidMemory:
    """The XIDs that were read before, in a file; a file that is missing, broken or of another boot is an empty one."""

    def __init__(self, machine: Host, file: Path) -> None:
        self._machine, self._file = machine, file
        self._boot = machine.text("/proc/sys/kernel/random/boot_id") or ""
        self._now = time.time()
        self._since, self._known = self._read()

    def begin(self) -> kernel_log.Reading | kernel_log.Lines | None:
        """Start to read what the log has since the last time; this boot's whole log the first time."""
        return kernel_log.begin(self._machine, since=self._since)

    def xids(self, begun: kernel_log.Reading | kernel_log.Lines | None) -> list[dict[str, Any]] | None:
        """All XIDs of this boot, oldest first, as `kernel_log.xids` has them; None if the log cannot be read now."""
        new = kernel_log.xids(begun)
        if new is None:
            return None
        merged = {_key(entry): entry for entry in (*self._known, *new)}
        entries = sorted(merged.values(), key=lambda entry: entry["at"])
        self._write(entries)
        return entries

    def _read(self) -> tuple[float | None, list[dict[str, Any]]]:
        try:
            kept = json.loads(self._file.read_text())
            if kept["boot"] != self._boot:
                return None, []
            for entry in kept["xids"]:
                _key(entry)
            return float(kept["read"]) - OVERLAP_S, list(kept["xids"])
        except (OSError, ValueError, KeyError, TypeError):
            return None, []

    def _write(self, entries: list[dict[str, Any]]) -> None:
        """Keep the entries; a folder that cannot be written costs time, not the answer."""
        new = self._file.with_suffix(".new")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps({"boot": self._boot, "read": self._now, "xids": entries}))
            new.replace(self._file)


def _key(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["at"], entry["bus_id"], entry["xid"], entry["said"]
