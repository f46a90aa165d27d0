"""What a person sees of a build: a line a step with its time, a bar where bytes move, the log's end on failure."""

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

# stderr: stdout carries the result of the salt-call that runs the stage
console = Console(stderr=True, highlight=False, soft_wrap=True)


LINE = 300
"""letters of a log's line that a person is shown"""

PULSE_S = 10.0
"""how often a long step says that it lives, where no terminal shows it moving"""


@contextmanager
def step(title: str, times: Path | None = None, log: Path | None = None) -> Iterator[None]:
    """Announce a step, say what it is doing meanwhile, and how long it took.

    times: keep the seconds there for the manifest. log: what the step writes; its last line tells what it is doing.
    """
    started = time.monotonic()
    console.print(f"[bold]→[/] {title}")

    def doing() -> str:
        said = log_tail(log, 1).rpartition("\r")[2].strip()[:100] if log else ""
        return f"  … {time.monotonic() - started:.0f} s  {escape(said)}"

    with _pulse(doing):
        yield
    seconds = time.monotonic() - started
    console.print(f"  [green]✓[/] {title}: {seconds:.1f} s")
    if times is not None:
        write_json(times, {**read_times(times), title.partition(":")[0]: round(seconds, 2)})


def read_times(times: Path) -> dict[str, float]:
    """The seconds of each step that were kept in a file."""
    try:
        kept: dict[str, float] = json.loads(times.read_text())
    except (OSError, ValueError):
        return {}
    return kept


def write_json(file: Path, content: Any, indent: int | None = 1) -> None:
    """Write a file in one step: who is killed meanwhile leaves the old one, or none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(file.name + ".new")
    new.write_text(json.dumps(content, indent=indent) + "\n")
    new.replace(file)


@contextmanager
def _pulse(say: Callable[[], str]) -> Iterator[None]:
    """While the block runs, say something every PULSE_S; on a terminal every second, always on the same line."""
    over = Event()

    def beat() -> None:
        if console.is_terminal:
            with console.status(say(), spinner="line") as line:
                while not over.wait(1):
                    line.update(say())
        else:
            while not over.wait(PULSE_S):
                console.print(say())

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def note(text: str) -> None:
    """One line of news that is neither a step nor an error."""
    console.print(f"  {text}")


@contextmanager
def byte_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over `total` bytes (0: nobody knows how many); call what it gives with the bytes that came."""
    if not console.is_terminal:
        come = [0]

        def count(size: int) -> None:
            come[0] += size

        def say() -> str:
            of = f" of {total >> 20}" if total else ""
            return f"  … {title}: {come[0] >> 20}{of} MiB"

        with _pulse(say):
            yield count
        console.print(say().replace("…", "[green]✓[/]"))
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


def log_tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for an error's second part."""
    try:
        text = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line if len(line) <= LINE else line[:LINE] + " …" for line in text[-lines:])
