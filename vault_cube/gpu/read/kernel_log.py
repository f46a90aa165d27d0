"""The driver's lines in the kernel's log: from the journal of a boot, or else from the kernel's buffer of this boot."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vault_cube.gpu.read import events
from vault_cube.gpu.read.host import Host
from vault_cube.process import PIPE, Process, TimeoutExpired, start

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Xid

Lines = list[tuple[float, str]]
"""(seconds since 1970, text)"""

JOURNAL = ["journalctl", "--dmesg", "--quiet", "--no-pager", "--output=short-unix", "--grep=NVRM|nvidia"]
JOURNAL_S = 5
"""Time limit for reading the journal, which runs in the background; after it, the kernel's buffer is used."""


class Reading:
    """A journal that is being read."""

    def __init__(self, process: Process[str], boot: int, end_only: bool) -> None:
        self.process, self.boot, self.end_only = process, boot, end_only
        self.until = time.monotonic() + JOURNAL_S


def begin(machine: Host, boot: int = 0, since: float | None = None) -> Reading | Lines | None:
    """Start to read the log in the background.

    boot: 0 is this one, -1 the previous one. since: seconds since 1970; read only the entries after that time. A test's
    machine has its logs in the files kernel.log and kernel.log.1.
    """
    if machine.root != Path("/"):
        text = machine.text("kernel.log" if boot == 0 else f"kernel.log.{-boot}")
        return None if text is None else _parsed(text)
    try:
        process = start(
            [*JOURNAL, f"--boot={boot}", *([] if since is None else [f"--since=@{since:.0f}"])],
            stdout=PIPE,
            stderr=PIPE,
            text=True,
            errors="replace",
        )
    except OSError:
        return _buffer() if boot == 0 else None
    return Reading(process, boot, since is not None)


def lines(begun: Reading | Lines | None) -> Lines | None:
    """Return the lines of a log that `begin` started to read, oldest first; None if the log cannot be read."""
    if not isinstance(begun, Reading):
        return begun
    other = _buffer if begun.boot == 0 else _nothing
    try:
        out, err = begun.process.communicate(timeout=max(0.0, begun.until - time.monotonic()))
    except TimeoutExpired:
        begun.process.kill()
        begun.process.communicate()
        return other()
    # journalctl also exits with 1 if nothing matches; only an unreadable journal has a message on stderr
    if begun.process.returncode != 0 and err.strip():
        return other()
    # the driver logs a line when it starts: a journal without one does not go back to the boot
    return _parsed(out) or ([] if begun.end_only else other())


def xids(begun: Reading | Lines | None) -> list[Xid] | None:
    """Return the XIDs of a log that `begin` started to read, with `at`; None if the log cannot be read."""
    log = lines(begun)
    if log is None:
        return None
    entries: list[Xid] = []
    for number, entry in events.numbered(text for _, text in log):
        entry["at"] = log[number][0]
        entries.append(entry)
    return entries


def _nothing() -> Lines | None:
    return None


def _parsed(text: str) -> Lines:
    """Parse `journalctl --output=short-unix`: time, host, kernel:, text; further lines of a record have no time."""
    parsed: Lines = []
    for line in text.splitlines():
        at, _, rest = line.partition(" ")
        try:
            parsed.append((float(at), rest))
        except ValueError:
            if parsed and line[:1].isspace():
                parsed.append((parsed[-1][0], line.strip()))
    return parsed


class Follower:
    """Reports the XIDs that the kernel logs after this object was created."""

    def __init__(self, machine: Host) -> None:
        self._file = None if machine.root == Path("/") else machine.root / "kernel.log"
        self._opened = _open_buffer() if self._file is None else None
        if self._opened is not None:
            os.lseek(self._opened, 0, os.SEEK_END)
        self._read = len(self._lines_of_file())

    def new(self) -> list[Xid]:
        """Return the XIDs since the last call, as from `events.logged`; none if the log cannot be read."""
        if self._opened is not None:
            return events.logged(text for _, text in _records(self._opened))
        texts = self._lines_of_file()
        new, self._read = texts[self._read :], len(texts)
        return events.logged(new)

    def close(self) -> None:
        """Close the log."""
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None

    def _lines_of_file(self) -> list[str]:
        try:
            return self._file.read_text(errors="replace").splitlines() if self._file else []
        except OSError:
            return []


def _open_buffer() -> int | None:
    try:
        return os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None


def _buffer() -> Lines | None:
    """Read the kernel's ring buffer, /dev/kmsg."""
    opened = _open_buffer()
    if opened is None:
        return None
    try:
        return _records(opened)
    finally:
        os.close(opened)


def _records(opened: int) -> Lines:
    """Read the driver's records up to the end, one per read: "priority,number,microseconds,flags;text"."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    records: Lines = []
    while True:
        try:
            record = os.read(opened, 8192).decode(errors="replace")
        except BrokenPipeError:
            continue  # overwritten while it was read; the next one is complete
        except (BlockingIOError, OSError):
            return records
        head, _, text = record.partition(";")
        if "NVRM" in text or "nvidia" in text:
            records.append((booted + int(head.split(",")[2]) / 1e6, text.splitlines()[0]))
