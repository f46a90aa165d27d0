"""A build's output on the terminal: one line per step with its duration, progress bars, the end of a log on failure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from vault_cube.process import log_tail
from vault_cube.redact import redacted

# stderr, because salt-call prints the result of the stage to stdout
console = Console(stderr=True, highlight=False, soft_wrap=True)

PULSE_S = 10.0
"""Interval, in seconds, between the progress lines of a long step if the output is not a terminal."""


@contextmanager
def step(title: str, times: Path | None = None, log: Path | None = None) -> Iterator[None]:
    """Print the title of a step, its progress while it runs, and its duration.

    times: file in which the duration is recorded, in seconds, under the part of the title before the colon.
    log: the step's log file, whose last line is shown as progress.
    """
    started = time.monotonic()
    title = redacted(title)
    console.print(f"[bold]→[/] {title}")

    def status() -> str:
        # command lines begin with "+ ", and are too long to show
        output = [line for line in log_tail(log, 5).splitlines() if not line.startswith("+ ")] if log else []
        last_line = output[-1].rpartition("\r")[2].strip()[:100] if output else ""
        return f"  … {time.monotonic() - started:.0f} s  {escape(last_line)}"

    with _pulse(status):
        yield
    seconds = time.monotonic() - started
    console.print(f"  [green]✓[/] {title}: {seconds:.1f} s")
    if times is not None:
        write_json(times, {**read_times(times), title.partition(":")[0]: round(seconds, 2)})


def read_times(times: Path) -> dict[str, float]:
    """Return the recorded duration of each step, in seconds; empty if the file is missing or malformed."""
    try:
        seconds: dict[str, float] = json.loads(times.read_text())
    except (OSError, ValueError):
        return {}
    return seconds


def write_json(file: Path, content: Any, indent: int | None = 1) -> None:
    """Write a JSON file atomically: if the process is killed, the old file, or no file, is left."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(file.name + ".new")
    new.write_text(json.dumps(content, indent=indent) + "\n")
    new.replace(file)


@contextmanager
def _pulse(status: Callable[[], str]) -> Iterator[None]:
    """While the block runs, print its status every PULSE_S; on a terminal, update a single line every second."""
    over = Event()

    def beat() -> None:
        if console.is_terminal:
            with console.status(status(), spinner="line") as line:
                while not over.wait(1):
                    line.update(status())
        else:
            while not over.wait(PULSE_S):
                console.print(status())

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def note(text: str) -> None:
    """Print one line of information."""
    console.print(f"  {redacted(text)}")


@contextmanager
def byte_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar over `total` bytes, or 0 if unknown. Yields a function that adds a number of bytes."""
    if not console.is_terminal:
        received = 0

        def advance(size: int) -> None:
            nonlocal received
            received += size

        def status() -> str:
            of = f" of {total >> 20}" if total else ""
            return f"  … {title}: {received >> 20}{of} MiB"

        with _pulse(status):
            yield advance
        console.print(status().replace("…", "[green]✓[/]"))
        return
    progress = Progress(
        TextColumn("  " + title),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    task = progress.add_task(title, total=total or None)
    with progress:
        yield lambda size: progress.advance(task, size)
