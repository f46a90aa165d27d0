"""The process that calls NVML: forked from the caller, controlled through a pipe, killed if it does not answer."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import mmap
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any

from vault_cube.gpu.nvml.device import Device, Nvml
from vault_cube.gpu.nvml.failures import NvmlProblem, Problem

NOTE_BYTES = 256
REAP_S = 0.1
"""A killed process is gone within milliseconds, unless the kernel keeps it in state D."""

Request = tuple[Callable[..., Any], int | None, tuple[Any, ...]]
"""Question, index of the GPU (None: NVML as a whole), arguments."""


class Child:
    """A child that serves questions. ahead: open NVML before the first question."""

    def __init__(self, ahead: bool = False) -> None:
        self._note = mmap.mmap(-1, NOTE_BYTES)
        self._pipe, theirs = Pipe()
        self.pid = os.fork()
        if self.pid:
            theirs.close()
            return
        try:
            _let_go(theirs.fileno())
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            # garbage collection would copy the parent's memory pages
            gc.disable()
            # the parent reports a library that crashes, in one line
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            _serve(theirs, self._calling, ahead)
        finally:
            os._exit(0)

    def send(self, request: Request) -> None:
        """Send a question. Raises BrokenPipeError or ConnectionResetError if the child has ended."""
        self._pipe.send(request)

    def ready(self, seconds: float) -> bool:
        """Wait for the answer, up to a number of seconds. Returns whether it is there."""
        return self._pipe.poll(seconds)

    def receive(self) -> tuple[bool, Any, bool]:
        """Return whether the question was answered, the answer or the exception, and whether NVML is simulated."""
        answer: tuple[bool, Any, bool] = self._pipe.recv()
        return answer

    def call(self) -> str:
        """Return the function that the child called last."""
        return bytes(self._note[:NOTE_BYTES]).rstrip(b"\0").decode(errors="replace")

    def kill(self) -> None:
        """Kill the child, without waiting for its end."""
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self, patience_s: float) -> bool:
        """Wait for the child to end by itself, and kill it after patience_s seconds. Returns whether it has ended."""
        self._pipe.close()
        if self.reap(patience_s) is None:
            self.kill()
            return self.reap(REAP_S) is not None
        return True

    def reap(self, seconds: float) -> int | None:
        """Wait for the child's end, up to a number of seconds. Returns its wait status; None if it still runs."""
        until = time.monotonic() + seconds
        while True:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid:
                return status
            if time.monotonic() >= until:
                return None
            time.sleep(0.002)

    def _calling(self, call: str) -> None:
        text = call.encode()[:NOTE_BYTES]
        self._note[:NOTE_BYTES] = text + bytes(NOTE_BYTES - len(text))


def _let_go(kept: int) -> None:
    """Close the parent's open files, so that a child that cannot be killed keeps no pipe or lock open."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, kept)
    os.closerange(kept + 1, limit if limit > 0 else 1 << 20)


def _serve(pipe: Connection[Any, Any], calling: Callable[[str], None], ahead: bool) -> None:
    """Answer questions until the other end is closed."""
    nvml: Nvml | None = None
    if ahead:
        # the first question tries again, and reports why NVML does not open
        with contextlib.suppress(NvmlProblem):
            nvml = Nvml(calling)
    while True:
        try:
            question, index, args = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            nvml = nvml or Nvml(calling)
            value = question(nvml, *args) if index is None else _device(nvml.device(index), question, args)
            answer = (True, value, nvml.simulated)
        except Exception as err:
            problem = err if isinstance(err, NvmlProblem) else NvmlProblem(_unforeseen(question, err))
            answer = (False, problem, bool(nvml and nvml.simulated))
        pipe.send(answer)


def _device(device: Device, question: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    device.begin()
    answer = question(device, *args)
    device.settle()
    if device.problem:
        answer |= {"problem": device.problem, "kind": device.kind}
    if device.errors:
        answer["errors"] = device.errors
    if device.dropped:
        answer["implausible"] = device.dropped
    if device.unreadable:
        answer["inforom_corrupted"] = device.unreadable
    return answer


def _unforeseen(question: Callable[..., Any], err: Exception) -> Problem:
    reason = f"{getattr(question, '__name__', 'a question')}: {type(err).__name__}: {err}"
    return Problem("defect", reason[:200], "this is a defect of Vault Cube: please report it with this line")
