"""Questions to NVML with a time limit: a driver that hangs or crashes costs an answer, not the caller.

A child process (child.py) asks NVML. It is forked at the first question and lives until the session ends, so that
asking again costs a fraction of a millisecond. The first hang of a session costs `answer_s`, all later ones together
little more than `later_s`, however many GPUs hang: the GPUs that are left are tried at the same time, each by a child
of its own. A child that the kernel keeps in state D cannot be killed, and is left behind.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from vault_cube.gpu.nvml import failures
from vault_cube.gpu.nvml.child import Child, Request
from vault_cube.gpu.nvml.device import Nvml, absent
from vault_cube.gpu.nvml.failures import NvmlProblem, Problem

T = TypeVar("T")

ANSWER_S = 5.0
"""NVML answers in microseconds; without persistence it first initialises each GPU, which takes seconds."""
LATER_S = 1.0
"""After the first hang the driver is known to be ill: the other GPUs, and later questions, get less time."""
GRAIN_S = (1.5, 0.5)
"""answer_s and later_s where every Salt command waits: 3 s at most, with the ends of the children."""
CLOSE_S = 0.3


class Hang(NamedTuple):
    """A GPU that gave no answer."""

    reason: str
    at: float
    """monotonic, in seconds"""


class Session:
    """Questions to NVML. A context manager; nothing is opened before the first question, and nothing raises at start.

    answer_s: seconds after which a driver that gave no answer hangs. later_s: the same after the first hang.
    retry_s: seconds after which a GPU that hung is asked again; None: not in this session.
    A question is a function of a module, with arguments that can be pickled. Not for two threads at a time.
    """

    def __init__(self, answer_s: float = ANSWER_S, later_s: float = LATER_S, retry_s: float | None = None) -> None:
        self.answer_s, self.later_s, self.retry_s = answer_s, min(later_s, answer_s), retry_s
        self.simulated = False
        self.generation = 0
        """how many children this session has had: what one of them listened to, the next one does not"""
        self._child: Child | None = None
        self._hung: dict[int, Hang] = {}
        self._driver_hung = False
        self._stuck: list[Child] = []

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # a session that was begun, and never asked
        self.close()

    @property
    def _pid(self) -> int:
        return self._child.pid if self._child else 0

    def begin(self) -> None:
        """Have the child open NVML while the caller does something else; the first question waits for the rest."""
        if self._child is None and not absent():
            self._start(ahead=True)

    def close(self) -> None:
        """End the child; a further question starts a new one."""
        child, self._child = self._child, None
        if child and not child.close(CLOSE_S):
            self._stuck.append(child)
        until = time.monotonic() + CLOSE_S
        self._stuck = [child for child in self._stuck if child.reap(max(0.0, until - time.monotonic())) is None]

    @property
    def hung(self) -> frozenset[int]:
        """The GPUs that hung when they were asked last."""
        return frozenset(self._hung)

    def problem(self) -> Problem | None:
        """Why NVML does not answer, or nothing."""
        try:
            self.count()
        except NvmlProblem as err:
            return err.problem
        return None

    def count(self) -> int:
        """How many GPUs the driver lists now. Raises NvmlProblem."""
        return self.ask(_count)

    def ask(self, question: Callable[..., T], *args: Any) -> T:
        """Ask something of NVML as a whole: `question(nvml, *args)` runs in the child. Raises NvmlProblem."""
        try:
            answer: T = self._answer((question, None, args))
        except NvmlProblem as err:
            self._driver_hung |= err.problem.kind == "hang"
            raise
        self._driver_hung = False
        return answer

    def each(self, question: Callable[..., T], *args: Any) -> list[T]:
        """Ask each GPU: `question(device, *args)` runs in the child, one GPU after the other.

        Returns one dict per GPU: `index`, what the question gave, `problem` and `kind` if the GPU did not answer,
        `errors` if parts of it did not, `implausible` if values were dropped that cannot be true, `inforom_corrupted`.
        A GPU that hung is asked again after `retry_s`. Raises NvmlProblem if NVML itself does not answer.
        """
        answers, count = [], self.count()
        for index in range(count):
            healthy = set(range(count)) - set(self._hung)
            answers.append(self._ask_gpu(index, question, args))
            if index in self._hung and index in healthy:
                self._try_others([other for other in range(index + 1, count) if other in healthy], question, args)
        return answers

    def _ask_gpu(self, index: int, question: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Ask one GPU. Returns its answer with index and, if it did not answer, problem and kind."""
        if index in self._hung and not self._retried(index):
            return {"index": index, "kind": "hang", "problem": self._hung[index].reason}
        try:
            answer = {"index": index, **self._answer((question, index, args))}
        except NvmlProblem as err:
            if err.problem.kind == "hang":
                self._note_hang(index, err.problem)
            return {"index": index, "kind": err.problem.kind, "problem": f"GPU {index}: {err.problem.reason}"}
        self._hung.pop(index, None)
        return answer

    def _retried(self, index: int) -> bool:
        """Whether a GPU that hung is asked again: not while the child that asked it is stuck in the kernel."""
        self._stuck = [child for child in self._stuck if child.reap(0) is None]
        since = time.monotonic() - self._hung[index].at
        return self.retry_s is not None and since >= self.retry_s and not self._stuck

    def _note_hang(self, index: int, problem: Problem) -> None:
        self._hung[index] = Hang(f"GPU {index}: {problem.reason}", time.monotonic())

    def _try_others(self, indices: list[int], question: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """After a hang: ask the other GPUs at the same time, and note which of them hang, too."""
        if len(indices) < 2:
            return
        # once here, so that not every child has to: it opens no library
        import pynvml  # noqa: F401

        trials = {index: Child() for index in indices}
        for index, child in trials.items():
            # one that has crashed already is left to the main child, which reports it
            with contextlib.suppress(OSError):
                child.send((question, index, args))
        until = time.monotonic() + self.later_s
        for index, child in trials.items():
            if not child.ready(max(0.0, until - time.monotonic())):
                self._note_hang(index, failures.hang(child.call(), self.later_s))
            child.kill()
        self._stuck += [child for child in trials.values() if child.reap(0.01) is None]

    def _answer(self, request: Request) -> Any:
        child = self._child
        if child is None:
            # a machine without NVIDIA's library is answered without a child
            if problem := absent():
                raise NvmlProblem(problem)
            child = self._start(ahead=False)
        limit = self.later_s if self._hung or self._driver_hung else self.answer_s
        try:
            child.send(request)
            if not child.ready(limit):
                self._end(child)
                raise NvmlProblem(failures.hang(child.call(), limit))
            good, value, self.simulated = child.receive()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise NvmlProblem(failures.crash(child.call(), self._end(child))) from None
        if not good:
            raise value
        return value

    def _call(self) -> str:
        return self._child.call() if self._child else ""

    def _start(self, ahead: bool) -> Child:
        self._child = Child(ahead)
        self.generation += 1
        return self._child

    def _end(self, child: Child) -> int:
        """Kill the child; returns its wait status, 0 if it could not be had."""
        self._child = None
        # one that crashed is gone, and its own status says how
        status = child.reap(0.05)
        if status is None:
            child.kill()
            status = child.reap(0.05)
        if status is None:
            self._stuck.append(child)
        return status or 0


def _count(nvml: Nvml) -> int:
    return nvml.counted()
