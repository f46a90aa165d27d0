"""What the workloads share: one JSON document on stdout, everything else on stderr. Standard library only.

A line on stderr that starts with `@` speaks to the runner: `@progress 0.40 ddp weak`, `@phase steady`, `@phase`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def say(kind: str, text: str = "") -> None:
    """One line to the runner."""
    sys.stderr.write(f"\n@{kind} {text}\n")
    sys.stderr.flush()


def progress(done: float, text: str) -> None:
    """done: share of the work that is done, 0 to 1."""
    say("progress", f"{done:.3f} {text}")


def run(work: Callable[[], dict[str, Any] | None]) -> None:
    """Do the work and print what it returns; frameworks that print to stdout print to stderr instead.

    None prints nothing (a worker that is not the first). An exception becomes `{"error": {"kind", "message"}}` and
    status 1.
    """
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        document = work()
        status = 0
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException as err:  # whatever it is, the runner is told what it was
        if isinstance(err, SystemExit) and err.code in (0, 2, None):
            raise
        import traceback

        traceback.print_exc()
        document = {"error": {"kind": kind_of(err), "message": first_line(err)}}
        status = 1
    if document is not None:
        os.write(out, (json.dumps(document) + "\n").encode())
    sys.stderr.flush()
    if status:
        # a framework's threads and atexit handlers may wait for workers that will never answer
        os._exit(status)


def first_line(err: BaseException) -> str:
    """An exception in one line of at most 300 characters."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return f"{type(err).__name__}: {lines[0] if lines else 'no message'}"[:300]


MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "resource_exhausted",
    "bad_alloc",
    "oom when allocating",
)
LOST = (
    "gpu is lost",
    "device lost",
    "device is unavailable",
    "unspecified launch failure",
    "fallen off the bus",
    "uncorrectable ecc",
)


def kind_of(err: BaseException) -> str:
    """`out of memory`, `gpu lost`, `missing` (a package is not there) or `error`, by the exception and its text."""
    text = f"{type(err).__name__} {err}".lower()
    if isinstance(err, MemoryError) or any(word in text for word in MEMORY):
        return "out of memory"
    if any(word in text for word in LOST):
        return "gpu lost"
    return "missing" if isinstance(err, ImportError) else "error"


def steps_for(seconds: float, step: Callable[[], object], sync: Callable[[], object], least: int = 3) -> int:
    """How many steps take about so many seconds, after two that warm up; at least `least`."""
    for _ in range(2):
        step()
    sync()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds / 4 or count < 2:
        step()
        sync()
        count += 1
    return max(least, round(seconds * count / (time.perf_counter() - started)))


def timed(step: Callable[[], object], sync: Callable[[], object], steps: int) -> float:
    """Seconds that so many steps take."""
    sync()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    sync()
    return time.perf_counter() - started


def metric(unit: str, samples: list[float], better: str = "higher") -> dict[str, Any]:
    """A measured quantity: its raw samples, in the order in which they were taken; the runner adds the statistics."""
    return {"unit": unit, "better": better, "samples": samples}
