"""A workload as a process: time limit, progress, and a reason in one line when it ends badly."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vault_cube.bench.run import leash

KILLED = re.compile(r"Signal 9 \(SIGKILL\) received by PID (\d+)|exitcode\s*:\s*-9 \(pid: (\d+)\)")
CRASHED = re.compile(r"^(\w*(?:Error|Exception|Interrupt)\b.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """How a workload ended: its document, or kind and reason."""

    document: dict[str, Any] | None
    kind: str | None
    reason: str | None
    seconds: float
    status: int


class Leashed:
    """A running command that dies with us. Use as a context manager; leaving it ends whatever is left.

    said: called with each line of stderr that starts with `@`, without the sign. printed: with each line of stdout.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        said: Callable[[str], None],
        printed: Callable[[str], None],
        folder: Path | None = None,
    ) -> None:
        self.tail: deque[str] = deque(maxlen=200)
        self._said, self._printed = said, printed
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-P", str(leash.__file__), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            text=True,
            errors="replace",
            cwd=folder,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._printed), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._hear), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], take: Callable[[str], None]) -> None:
        for line in stream:
            take(line.rstrip("\n"))

    def _hear(self, line: str) -> None:
        if line.startswith("@"):
            self._said(line[1:])
        elif line:
            self.tail.append(line)

    def wait(self, seconds: float) -> int | None:
        """The exit status, or None when it still runs after so many seconds."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """End all of it; returns when nothing is left."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=2 * leash.GRACE_S + 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(timeout=2)

    def __enter__(self) -> Leashed:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    limit_s: float,
    said: Callable[[str], None],
    watch: Callable[[], tuple[str, str] | None],
    folder: Path | None = None,
) -> Ended:
    """Run a workload to its end, whatever that is.

    limit_s: a workload that takes longer hangs. watch: asked several times a second; a (kind, reason) ends the
    workload.
    KeyboardInterrupt passes through, after everything was ended.
    """
    started, kills = time.monotonic(), oom_kills()
    lines: list[str] = []
    stopped: tuple[str, str] | None = None
    with Leashed(command, environment, said, lines.append, folder) as running:
        while (status := running.wait(0.2)) is None:
            stopped = watch()
            if not stopped and time.monotonic() - started > limit_s:
                stopped = "hang", f"ended after its time limit of {limit_s:g} s (pillar benchmark: limits_s)"
            if stopped:
                running.end()
                status = running.process.returncode
                break
    seconds = time.monotonic() - started
    tail = "\n".join(running.tail)
    if stopped:
        return Ended(None, *stopped, seconds, status)
    document = _document(lines)
    if document is not None and "error" not in document and status == 0:
        return Ended(document, None, None, seconds, status)
    kind, reason = _why(document, status, tail, oom_kills() - kills)
    return Ended(None, kind, reason, seconds, status)


def oom_kills() -> int:
    """How many processes the kernel's out-of-memory killer has ended since boot; 0 where it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) if found else 0


def _document(lines: list[str]) -> dict[str, Any] | None:
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return None


def _why(document: dict[str, Any] | None, status: int, tail: str, oom: int) -> tuple[str, str]:
    """Kind and reason of a bad end."""
    killed = KILLED.search(tail)
    if oom and (killed or status == 137):
        return "out of memory", "the kernel ended it for want of memory (journalctl -k names the process)"
    if killed:
        return "killed", f"worker process {killed[1] or killed[2]} was killed by signal 9"
    if document is not None and "error" in document:
        return document["error"]["kind"], document["error"]["message"]
    if status > 128:
        return "killed", f"it was killed by signal {status - 128}"
    if status == 0:
        return "error", "it ended well and printed no result"
    said = CRASHED.findall(tail)
    return (
        "error",
        f"status {status}: {said[-1][:200] if said else (tail.splitlines() or ['it said nothing'])[-1][:200]}",
    )


def environment_for(scratch: Path, more: Mapping[str, str]) -> dict[str, str]:
    """What a workload sees of our environment: little, so that a result does not hang on who started it."""
    passed = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LANG")
    return {
        **{name: os.environ[name] for name in passed if name in os.environ},
        # CUDA's own order is fastest first, NVML's that of the bus: `cuda:N` has to be the card whose sensors are read
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        **more,
    }
