"""The kernel's log of this boot where it concerns the driver: the journal, else the kernel's own buffer."""

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

JOURNAL = ["journalctl", "--dmesg", "--boot", "--quiet", "--no-pager", "--output=short-unix", "--grep=NVRM|nvidia"]
JOURNAL_S = 5


def begin(machine: Host) -> subprocess.Popen[str] | Lines | None:
    """Start to read, so that other work goes on meanwhile. A test's machine keeps its log in the file kernel.log."""
    if machine.root != Path("/"):
        text = machine.text("kernel.log")
        return None if text is None else _parsed(text)
    try:
        return subprocess.Popen(JOURNAL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    except OSError:
        return _buffer()


def lines(begun: subprocess.Popen[str] | Lines | None) -> Lines | None:
    """What was begun, at its end: oldest first; none where the log may not be read."""
    if not isinstance(begun, subprocess.Popen):
        return begun
    try:
        out, err = begun.communicate(timeout=JOURNAL_S)
    except subprocess.TimeoutExpired:
        begun.kill()
        begun.communicate()
        return _buffer()
    # nothing found is status 1, too; a journal that may not be read, or is none, says so
    if begun.returncode != 0 and err.strip():
        return _buffer()
    found = _parsed(out)
    return found or _buffer()


def xids(begun: subprocess.Popen[str] | Lines | None) -> list[dict[str, Any]] | None:
    """The XIDs in what was begun, with `at`, seconds since 1970; none where the log may not be read."""
    found = lines(begun)
    if found is None:
        return None
    return [{"at": at, **one} for at, text in found for one in events.logged([text])]


def _parsed(text: str) -> Lines:
    """Lines of `journalctl --output=short-unix`: time, host, kernel:, text."""
    found = []
    for line in text.splitlines():
        at, _, rest = line.partition(" ")
        try:
            found.append((float(at), rest))
        except ValueError:
            continue
    return found


def _buffer() -> Lines | None:
    """The kernel's ring buffer, /dev/kmsg: one record a read, "priority,number,microseconds,flags;text"."""
    try:
        opened = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found: Lines = []
    try:
        while True:
            try:
                record = os.read(opened, 8192).decode(errors="replace")
            except BrokenPipeError:
                continue  # overwritten while we read: the next one is whole
            except (BlockingIOError, OSError):
                return found
            head, _, text = record.partition(";")
            if "NVRM" in text or "nvidia" in text:
                found.append((booted + int(head.split(",")[2]) / 1e6, text.splitlines()[0]))
    finally:
        os.close(opened)
