"""Shared code of the workloads: one JSON document on stdout, everything else on stderr. Standard library only.

A line on stderr that starts with `@` is a message to the runner: `@progress 0.40 ddp weak`, `@phase steady`, `@phase`.
Sensors are summarised by phase: a metric names the phase in which it was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def say(kind: str, text: str = "") -> None:
    """Send a message to the runner."""
    sys.stderr.write(f"\n@{kind} {text}\n")
    sys.stderr.flush()


def progress(done: float, text: str) -> None:
    """Report progress to the runner. done: share of the work that is done, 0 to 1."""
    say("progress", f"{done:.3f} {text}")


def run(work: Callable[[], dict[str, Any] | None]) -> None:
    """Do the work and print the document that it returns; stdout of the frameworks is redirected to stderr.

    None prints nothing (workers with a rank above 0). An exception is printed as `{"error": {"kind", "message"}}`, and
    the process exits with status 1.
    """
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        document = work()
        status = 0
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException as err:  # report any exception to the runner
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
        # exit at once: threads and atexit handlers of a framework may wait for workers that no longer exist
        os._exit(status)


def first_line(err: BaseException) -> str:
    """Return an exception as one line of at most 300 characters."""
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
    """Classify an exception by its type and text: `out of memory`, `gpu lost`, `missing` (a package), or `error`."""
    text = f"{type(err).__name__} {err}".lower()
    if isinstance(err, MemoryError) or any(word in text for word in MEMORY):
        return "out of memory"
    if any(word in text for word in LOST):
        return "gpu lost"
    return "missing" if isinstance(err, ImportError) else "error"


def steps_for(seconds: float, step: Callable[[], object], sync: Callable[[], object], least: int = 3) -> int:
    """Return the number of steps that take about `seconds`, but at least `least`; two more steps warm up first."""
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
    """Return the seconds that `steps` steps take."""
    sync()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    sync()
    return time.perf_counter() - started


def metric(
    quantity: str,
    unit: str,
    samples: list[float],
    *,
    better: str = "higher",
    subject: str | None = None,
    device: str | None = None,
    peer: str | None = None,
    phase: str | None = None,
) -> dict[str, Any]:
    """Return a metric for the document, with its raw samples in order of time; the runner adds the statistics.

    quantity: what was measured. subject: its case, such as a precision or a model. device, peer: a copy goes from one
    to the other; None: all devices together. phase: the phase in which it was measured.
    """
    return {
        "quantity": quantity,
        "subject": subject,
        "device": device,
        "peer": peer,
        "phase": phase,
        "unit": unit,
        "better": better,
        "samples": samples,
    }


def check(
    quantity: str, compared: int, wrong: int, device: str | None = None, peer: str | None = None
) -> dict[str, Any]:
    """Return the result of a comparison of data for the document: number of values compared, and of wrong ones."""
    return {"quantity": quantity, "device": device, "peer": peer, "compared": compared, "wrong": wrong}


def effort(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every workload: repeats, seconds, steady."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="approximate length of one timed run, seconds")
    parser.add_argument("--steady", type=float, default=10.0, help="length of a continuous run, seconds")
    return parser
