"""What a person sees of a build: a line a step with its time, a bar where bytes move, the log's end on failure."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

# stderr: stdout carries the result of the salt-call that runs the stage
console = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def step(title: str, times: Path | None = None) -> Iterator[None]:
    """Announce a step, and say how long it took; with `times`, keep the seconds there for the manifest."""
    started = time.monotonic()
    console.print(f"[bold]→[/] {title}")
    yield
    seconds = time.monotonic() - started
    console.print(f"  [green]✓[/] {title}: {seconds:.1f} s")
    if times is not None:
        kept = json.loads(times.read_text()) if times.exists() else {}
        kept[title.partition(":")[0]] = round(seconds, 2)
        times.parent.mkdir(parents=True, exist_ok=True)
        times.write_text(json.dumps(kept, indent=1))


def note(text: str) -> None:
    """One line of news that is neither a step nor an error."""
    console.print(f"  {text}")


@contextmanager
def byte_bar(title: str, total: int) -> Iterator[Progress]:
    """A bar over `total` bytes; advance task 0. Where the output is no terminal only its end is printed."""
    progress = Progress(
        TextColumn("  " + title),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    progress.add_task(title, total=total)
    with progress:
        yield progress


def log_tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for an error's second part."""
    try:
        text = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(text[-lines:])
