"""The kernel's log where it concerns the driver: the journal of a boot, else the kernel's own buffer of this boot."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from vault_cube.gpu.read import events
from vault_cube.gpu.read.host import Host

Lines = list[tuple[float, str]]
"""(seconds since 1970, text)"""

JOURNAL = ["journalctl", "--dmesg", "--quiet", "--no-pager", "--output=short-unix", "--grep=NVRM|nvidia"]
JOURNAL_S = 5
"""The journal is read while other work goes on; so many seconds after its start the kernel's buffer has to do."""


class Reading:
    """A journal that is being read."""

    def __init__(self, process: subprocess.Popen[str], boot: int, end_only: bool) -> None:
        self.process, self.boot, self.end_only = process, boot, end_only
        self.until = time.monotonic() + JOURNAL_S


def begin(machine: Host, boot: int = 0, since: float | None = None) -> Reading | Lines | None:
    """Start to read, so that other work can go on at the same time.

    boot: 0 is this one, -1 the one before. since: seconds since 1970, to read the end of a journal that could be read
    before. A test's machine has its logs in the files kernel.log and kernel.log.1.
    """
    if machine.root != Path("/"):
        text = machine.text("kernel.log" if boot == 0 else f"kernel.log.{-boot}")
        return None if text is None else _parsed(text)
    try:
        process = subprocess.Popen(
            [*JOURNAL, f"--boot={boot}", *([] if since is None else [f"--since=@{since:.0f}"])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError:
        return _buffer() if boot == 0 else None
    return Reading(process, boot, since is not None)


def lines(begun: Reading | Lines | None) -> Lines | None:
    """The lines of what was begun, oldest first; None if the log cannot be read."""
    if not isinstance(begun, Reading):
        return begun
    other = _buffer if begun.boot == 0 else _nothing
    try:
        out, err = begun.process.communicate(timeout=max(0.0, begun.until - time.monotonic()))
    except subprocess.TimeoutExpired:
        begun.process.kill()
        begun.process.communicate()
        return other()
    # an empty result is status 1, too; a journal that cannot be read, or is none, says so
    if begun.process.returncode != 0 and err.strip():
        return other()
    # the driver writes a line when it starts: a journal without any was not kept since the boot
    return _parsed(out) or ([] if begun.end_only else other())


def xids(begun: Reading | Lines | None) -> list[dict[str, Any]] | None:
    """The XIDs in what was begun, with `at`, seconds since 1970; None if the log cannot be read."""
    found = lines(begun)
    if found is None:
        return None
    return [{"at": found[number][0], **entry} for number, entry in events.numbered(text for _, text in found)]


def _nothing() -> Lines | None:
    return None


def _parsed(text: str) -> Lines:
    """Lines of `journalctl --output=short-unix`: time, host, kernel:, text; a record's further lines have no time."""
    found: Lines = []
    for line in text.splitlines():
        at, _, rest = line.partition(" ")
        try:
            found.append((float(at), rest))
        except ValueError:
            if found and line[:1].isspace():
                found.append((found[-1][0], line.strip()))
    return found


class Follower:
    """XIDs that the kernel writes while we look again and again: what was there at the first look does not count."""

    def __init__(self, machine: Host) -> None:
        self._file = None if machine.root == Path("/") else machine.root / "kernel.log"
        self._opened = _open_buffer() if self._file is None else None
        if self._opened is not None:
            os.lseek(self._opened, 0, os.SEEK_END)
        self._read = len(self._lines_of_file())

    def new(self) -> list[dict[str, Any]]:
        """The XIDs since the last call, as `events.logged` has them; none if the log cannot be read."""
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
    """What the kernel's ring buffer, /dev/kmsg, has of this boot."""
    opened = _open_buffer()
    if opened is None:
        return None
    try:
        return _records(opened)
    finally:
        os.close(opened)


def _records(opened: int) -> Lines:
    """The driver's records up to the end, one per read: "priority,number,microseconds,flags;text"."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found: Lines = []
    while True:
        try:
            record = os.read(opened, 8192).decode(errors="replace")
        except BrokenPipeError:
            continue  # overwritten while it was read: the next one is whole
        except (BlockingIOError, OSError):
            return found
        head, _, text = record.partition(";")
        if "NVRM" in text or "nvidia" in text:
            found.append((booted + int(head.split(",")[2]) / 1e6, text.splitlines()[0]))
