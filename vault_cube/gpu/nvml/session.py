"""NVML in a child process with a time limit of its own: a driver that hangs or crashes costs an answer, not the caller.

The child is forked at the first question and lives until the session ends, so that asking again costs a fraction of a
millisecond. Where it hangs it is killed; one in the kernel's state D cannot be, and is left behind.
"""

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
from typing import Any, TypeVar

from vault_cube.gpu.nvml import failures
from vault_cube.gpu.nvml.device import Device, Nvml, absent
from vault_cube.gpu.nvml.failures import NvmlProblem, Problem

T = TypeVar("T")

ANSWER_S = 10.0
"""NVML answers in microseconds; without persistence it wakes each GPU first, which takes seconds."""

NOTE_BYTES = 256


class Session:
    """Questions to NVML. A context manager; nothing is opened before the first question, and nothing raises at start.

    answer_s: seconds after which a driver that gave no answer hangs.
    A question is a function of a module, with arguments that can be pickled. Not for two threads at a time.
    """

    def __init__(self, answer_s: float = ANSWER_S) -> None:
        self.answer_s = answer_s
        self.simulated = False
        self._note = mmap.mmap(-1, NOTE_BYTES)
        self._pid = 0
        self._pipe: Connection[Any, Any] | None = None
        self._hung: dict[int, str] = {}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # one that was begun, and never asked
        self.close()

    def begin(self) -> None:
        """Have NVML opened by the child while the caller does something else; the first question waits for the rest."""
        if self._pipe is None and not absent():
            self._pipe = self._start(ahead=True)

    def close(self) -> None:
        """End the child."""
        if self._pipe:
            self._pipe.close()
            self._pipe = None
        if self._pid:
            self._reap(patience_s=0.5)

    def problem(self) -> Problem | None:
        """Why NVML does not answer, or nothing."""
        try:
            self.count()
        except NvmlProblem as err:
            return err.problem
        return None

    def count(self) -> int:
        """How many GPUs there are. Raises NvmlProblem."""
        return self.ask(_count)

    def ask(self, question: Callable[..., T], *args: Any) -> T:
        """Ask something of NVML as a whole: `question(nvml, *args)` runs in the child. Raises NvmlProblem."""
        return self._answer((question, None, args))  # type: ignore[no-any-return]

    def each(self, question: Callable[..., dict[str, Any]], *args: Any) -> list[dict[str, Any]]:
        """Ask each GPU: `question(device, *args)` runs in the child, one GPU after the other.

        Returns a dict a GPU: `index`, what the question gave, `problem` and `kind` when the GPU did not answer,
        `errors` when parts of it did not. A GPU that hung is not asked again in this session. Raises NvmlProblem when
        NVML itself does not answer.
        """
        return [self._one(index, question, args) for index in range(self.count())]

    def _one(self, index: int, question: Callable[..., dict[str, Any]], args: tuple[Any, ...]) -> dict[str, Any]:
        if index in self._hung:
            return {"index": index, "kind": "hang", "problem": self._hung[index]}
        try:
            return {"index": index, **self._answer((question, index, args))}
        except NvmlProblem as err:
            if err.problem.kind == "hang":
                self._hung[index] = f"GPU {index}: {err.problem.said}"
            return {"index": index, "kind": err.problem.kind, "problem": f"GPU {index}: {err.problem.said}"}

    def _answer(self, request: tuple[Any, ...]) -> Any:
        if self._pipe is None:
            # a machine without a driver is answered without a child
            if problem := absent():
                raise NvmlProblem(problem)
            self._pipe = self._start(ahead=False)
        pipe = self._pipe
        try:
            pipe.send(request)
            if not pipe.poll(self.answer_s):
                call = self._call()
                self._end()
                raise NvmlProblem(failures.hang(call, self.answer_s))
            good, value, self.simulated = pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            call = self._call()
            raise NvmlProblem(failures.crash(call, self._end())) from None
        if not good:
            raise value
        return value

    def _call(self) -> str:
        return bytes(self._note[:NOTE_BYTES]).rstrip(b"\0").decode()

    def _end(self) -> int:
        """Kill the child; returns its wait status, 0 where it could not be had."""
        if self._pipe:
            self._pipe.close()
            self._pipe = None
        return self._reap(patience_s=0)

    def _reap(self, patience_s: float) -> int:
        until = time.monotonic() + patience_s
        status = 0
        for number in (0, signal.SIGKILL):
            if number:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, number)
                until = time.monotonic() + 0.5
            pid = 0
            while True:
                try:
                    pid, status = os.waitpid(self._pid, os.WNOHANG)
                except ChildProcessError:
                    pid = self._pid
                if pid or time.monotonic() >= until:
                    break
                time.sleep(0.002)
            if pid:
                break
        self._pid = 0
        return status

    def _start(self, ahead: bool) -> Connection[Any, Any]:
        ours, theirs = Pipe()
        self._pid = os.fork()
        if self._pid:
            theirs.close()
            return ours
        try:
            _let_go(theirs.fileno())
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            # collecting the parent's garbage would copy its memory
            gc.disable()
            # a library that crashes is told by us, in one line
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            _serve(theirs, self._calling, ahead)
        finally:
            os._exit(0)

    def _calling(self, call: str) -> None:
        said = call.encode()[:NOTE_BYTES]
        self._note[:NOTE_BYTES] = said + bytes(NOTE_BYTES - len(said))


def _let_go(kept: int) -> None:
    """Close what the parent had open: a child that cannot be killed must keep no pipe or lock of anybody's open."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, kept)
    os.closerange(kept + 1, limit if limit > 0 else 1 << 20)


def _serve(pipe: Connection[Any, Any], calling: Callable[[str], None], ahead: bool) -> None:
    """Answer questions until the other end is closed. ahead: open NVML before the first one."""
    nvml: Nvml | None = None
    if ahead:
        # why it does not open is told to the first question, which tries once more
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
            told = err if isinstance(err, NvmlProblem) else NvmlProblem(_unforeseen(question, err))
            answer = (False, told, bool(nvml and nvml.simulated))
        pipe.send(answer)


def _device(device: Device, question: Callable[..., dict[str, Any]], args: tuple[Any, ...]) -> dict[str, Any]:
    device.begin()
    found = question(device, *args)
    if device.problem:
        found |= {"problem": device.problem, "kind": device.kind}
    if device.errors:
        found["errors"] = device.errors
    return found


def _unforeseen(question: Callable[..., Any], err: Exception) -> Problem:
    said = f"{getattr(question, '__name__', 'a question')}: {type(err).__name__}: {err}"
    return Problem("defect", said[:200], "this is a defect of Vault Cube: please report it with this line")


def _count(nvml: Nvml) -> int:
    return nvml.count
