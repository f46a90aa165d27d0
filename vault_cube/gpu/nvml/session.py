"""Questions to NVML with a time limit: a driver that hangs or crashes does not affect the caller.

A child process (child.py) calls NVML. It is forked at the first question and lives until the session ends, so that a
further question takes a fraction of a millisecond. The first hang of a session takes `answer_s`; all later ones
together take little more than `later_s`, for any number of GPUs, because the other GPUs are tried at the same time,
each by its own child. A child that the kernel keeps in state D cannot be killed, and is left behind.
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
"""NVML answers in microseconds; without persistence, it first initialises each GPU, which takes seconds."""
LATER_S = 1.0
"""Time limit after the first hang, for the other GPUs and for later questions."""
GRAIN_S = (1.5, 0.5)
"""answer_s and later_s for the grain, which delays every Salt command: at most 3 s in total."""
CLOSE_S = 0.3


class Hang(NamedTuple):
    """A GPU that gave no answer."""

    reason: str
    at: float
    """Monotonic time, in seconds."""


class Session:
    """Questions to NVML. A context manager, which opens NVML at the first question and never raises when entered.

    answer_s: time limit for an answer, in seconds. later_s: the same after the first hang. retry_s: seconds after
    which a GPU that hung is asked again; None: never in this session. A question is a function of a module, with
    arguments that can be pickled. Not thread-safe.
    """

    def __init__(self, answer_s: float = ANSWER_S, later_s: float = LATER_S, retry_s: float | None = None) -> None:
        self.answer_s, self.later_s, self.retry_s = answer_s, min(later_s, answer_s), retry_s
        self.simulated = False
        self.generation = 0
        """Number of children so far: a registration for events is lost with its child."""
        self._child: Child | None = None
        self._hung: dict[int, Hang] = {}
        self._driver_hung = False
        self._stuck: list[Child] = []

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # begin() may have been called without any question
        self.close()

    @property
    def _pid(self) -> int:
        return self._child.pid if self._child else 0

    def begin(self) -> None:
        """Let the child open NVML in the background; the first question waits until it is open."""
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
        """The GPUs that hung at the last question."""
        return frozenset(self._hung)

    def problem(self) -> Problem | None:
        """Return why NVML does not answer; None if it does."""
        try:
            self.count()
        except NvmlProblem as err:
            return err.problem
        return None

    def count(self) -> int:
        """Return the number of GPUs that the driver lists now. Raises NvmlProblem."""
        return self.ask(_count)

    def ask(self, question: Callable[..., T], *args: Any) -> T:
        """Ask about NVML as a whole: `question(nvml, *args)` runs in the child. Raises NvmlProblem."""
        try:
            answer: T = self._answer((question, None, args))
        except NvmlProblem as err:
            self._driver_hung |= err.problem.kind == "hang"
            raise
        self._driver_hung = False
        return answer

    def each(self, question: Callable[..., T], *args: Any) -> list[T]:
        """Ask each GPU: `question(device, *args)` runs in the child, for one GPU after the other.

        Returns the answer of each GPU, with the first six fields of `fields.Card` added where they apply. A GPU that
        hung is asked again after `retry_s`. Raises NvmlProblem if NVML itself does not answer.
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
        """Return whether a GPU that hung is asked again; not while a child is still stuck in the kernel."""
        self._stuck = [child for child in self._stuck if child.reap(0) is None]
        since = time.monotonic() - self._hung[index].at
        return self.retry_s is not None and since >= self.retry_s and not self._stuck

    def _note_hang(self, index: int, problem: Problem) -> None:
        self._hung[index] = Hang(f"GPU {index}: {problem.reason}", time.monotonic())

    def _try_others(self, indices: list[int], question: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """After a hang, ask the other GPUs at the same time, and record which of them hang as well."""
        if len(indices) < 2:
            return
        # import it once here instead of in every child; this opens no library
        import pynvml  # noqa: F401

        trials = {index: Child() for index in indices}
        for index, child in trials.items():
            # a child that has already crashed is ignored: the main child will report the crash
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
            # without NVIDIA's library, no child is needed
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
        """Kill the child. Returns its wait status; 0 if it is not available."""
        self._child = None
        # a crashed child has already ended, with a status that describes the crash
        status = child.reap(0.05)
        if status is None:
            child.kill()
            status = child.reap(0.05)
        if status is None:
            self._stuck.append(child)
        return status or 0


def _count(nvml: Nvml) -> int:
    return nvml.counted()
