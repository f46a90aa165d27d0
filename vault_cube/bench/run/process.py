"""Run a workload as a process: time limit, progress, and a one-line reason if it fails."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from vault_cube.bench.fields import Document
from vault_cube.bench.run import supervisor
from vault_cube.process import PIPE, TimeoutExpired, start

KILLED = re.compile(r"Signal 9 \(SIGKILL\) received by PID (\d+)|exitcode\s*:\s*-9 \(pid: (\d+)\)")
CRASHED = re.compile(r"^(\w*(?:Error|Exception|Interrupt)\b.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """The end of a workload: its document, or the kind and reason of its failure."""

    document: Document | None
    kind: str | None
    reason: str | None
    seconds: float
    status: int


class Supervised:
    """A running command that cannot outlive this process. A context manager; leaving it kills remaining processes.

    on_message: called with each line of stderr that starts with `@`, without the `@`. on_output: called with each line
    of stdout. folder: the command's working directory.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_message: Callable[[str], None],
        on_output: Callable[[str], None],
        folder: Path | None = None,
    ) -> None:
        self.tail: deque[str] = deque(maxlen=200)
        self._on_message, self._on_output = on_message, on_output
        self.process = start(
            [sys.executable, "-S", "-E", "-P", str(supervisor.__file__), *command],
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=dict(environment),
            text=True,
            errors="replace",
            cwd=folder,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._on_output), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._take_error_line), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], take: Callable[[str], None]) -> None:
        for line in stream:
            take(line.rstrip("\n"))

    def _take_error_line(self, line: str) -> None:
        if line.startswith("@"):
            self._on_message(line[1:])
        elif line:
            self.tail.append(line)

    def wait(self, seconds: float) -> int | None:
        """Wait up to so many seconds; return the exit status, or None if the command is still running."""
        try:
            return self.process.wait(timeout=seconds)
        except TimeoutExpired:
            return None

    def end(self) -> None:
        """Kill the command and all its descendants; return when none is left."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=2 * supervisor.GRACE_S + 5)
        except TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(timeout=2)

    def __enter__(self) -> Supervised:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    limit_s: float,
    on_message: Callable[[str], None],
    watch: Callable[[], tuple[str, str] | None],
    folder: Path | None = None,
) -> Ended:
    """Run a workload, and return its document or the reason of its failure.

    limit_s: seconds after which a workload counts as hung and is killed. on_message: called with each progress line.
    watch: called several times per second; if it returns a (kind, reason), the workload is killed. folder: the
    workload's working directory. Raises KeyboardInterrupt, after all processes of the workload were killed.
    """
    started, kills = time.monotonic(), oom_kills()
    lines: list[str] = []
    stopped: tuple[str, str] | None = None
    with Supervised(command, environment, on_message, lines.append, folder) as running:
        while (status := running.wait(0.2)) is None:
            stopped = watch()
            if not stopped and time.monotonic() - started > limit_s:
                stopped = "hang", f"killed after its time limit of {limit_s:g} s (pillar benchmark: limits_s)"
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
    """Return how many processes the kernel's OOM killer has killed since boot; 0 if the kernel has no such counter."""
    try:
        counter = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        counter = None
    return int(counter[1]) if counter else 0


def _document(lines: list[str]) -> Document | None:
    for line in reversed(lines):
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            return cast("Document", document)
    return None


def _why(document: Document | None, status: int, tail: str, oom: int) -> tuple[str, str]:
    """Return the kind and the reason of a failure."""
    killed = KILLED.search(tail)
    if oom and (killed or status == 137):
        return "out of memory", "killed by the kernel's OOM killer (`journalctl -k` names the process)"
    if killed:
        return "killed", f"worker process {killed[1] or killed[2]} was killed by signal 9"
    if document is not None and "error" in document:
        return document["error"]["kind"], document["error"]["message"]
    if status > 128:
        return "killed", f"killed by signal {status - 128}"
    if status == 0:
        return "error", "exited with status 0 but printed no result"
    errors = CRASHED.findall(tail)
    return (
        "error",
        f"status {status}: {errors[-1][:200] if errors else (tail.splitlines() or ['no output on stderr'])[-1][:200]}",
    )


def environment_for(scratch: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a workload: few, so that a result does not depend on who started it.

    scratch: folder for HOME and TMPDIR. more: variables to add.
    """
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
