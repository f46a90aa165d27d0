"""Run other programs. All processes of this project start here.

With `VAULT_CUBE_DEBUG=1` each command line is printed to stderr, without credentials in addresses.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from vault_cube.errors import VaultCubeError, debugging
from vault_cube.redact import redacted

Command = Sequence[str | Path]
Process = subprocess.Popen
TimeoutExpired = subprocess.TimeoutExpired
PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL

LINE = 300
"""Maximum length, in characters, of a line that is shown."""


class Result(NamedTuple):
    """The exit status and the output of a command; the output is empty if it was not captured."""

    returncode: int
    stdout: str
    stderr: str


class CommandFailed(VaultCubeError):
    """A command failed. `returncode`: its exit status; None if it could not start or did not finish."""

    def __init__(self, message: str, returncode: int | None = None) -> None:
        self.returncode = returncode
        super().__init__(message)


class Missing(CommandFailed):
    """The program is not installed."""


class TimedOut(CommandFailed):
    """The command did not finish in time, and was killed."""


def required(program: str, packages: str) -> None:
    """Check that a program is installed. Raises Missing.

    packages: the Debian packages that have it, as the message names them after "install".
    """
    if not shutil.which(program):
        raise Missing(f"{program} is missing: install {packages}")


def run(
    command: Command,
    *,
    purpose: str = "",
    log: Path | None = None,
    input: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float | None = None,
    ok: Collection[int] | None = (0,),
    capture: bool = True,
    interactive: bool = False,
    errors: str = "replace",
) -> Result:
    """Run a command and wait until it ends. Returns its exit status and output.

    purpose: what the command is for; error messages begin with it. log: file to which the command line and all output
    are appended; the output is not captured then. input: what the command reads from stdin. env: all its environment
    variables; None: those of this process. cwd: its working directory. timeout_s: time limit in seconds. ok: exit
    statuses that are no error; None: all. capture: False leaves the output on the terminal. interactive: the command
    can read from the terminal. errors: how to decode output that is not UTF-8.
    Raises Missing, TimedOut, or CommandFailed with the last line of stderr, or the end of the log.
    """
    show(command, log)
    with ExitStack() as stack:
        out: Any = subprocess.PIPE if capture else None
        if log:
            out = stack.enter_context(log.open("ab"))
        reads: dict[str, Any] = {} if interactive else {"stdin": subprocess.DEVNULL}
        if input is not None:
            reads = {"input": input.encode() if isinstance(input, str) else input}
        try:
            done = subprocess.run(
                command, stdout=out, stderr=out, env=env, cwd=cwd, timeout=timeout_s, check=False, **reads
            )
        except subprocess.TimeoutExpired as err:
            raise TimedOut(_message(purpose, command, f"did not finish within {timeout_s:.0f} s")) from err
        except OSError as err:
            if str(err.filename) != str(command[0]):  # the working directory
                raise CommandFailed(_message(purpose, command, f"cannot run: {err.filename}: {err.strerror}")) from err
            if isinstance(err, FileNotFoundError):
                raise Missing(_message(purpose, command, "is not installed: install it")) from err
            raise CommandFailed(_message(purpose, command, f"cannot run: {err.strerror}")) from err
    stdout, stderr = ((stream or b"").decode(errors=errors) for stream in (done.stdout, done.stderr))
    if ok is not None and done.returncode not in ok:
        reason = f"; the end of {log}:\n{log_tail(log)}" if log else ": " + (last_line(stderr) or "no error message")
        status = f"failed with status {done.returncode}" + (reason if capture else "")
        raise CommandFailed(_message(purpose, command, status), done.returncode)
    return Result(done.returncode, stdout, stderr)


def start(command: Command, **options: Any) -> Process[Any]:
    """Start a command that this process supervises. options: those of subprocess.Popen. Raises OSError."""
    show(command)
    return subprocess.Popen(command, **options)


def show(command: Command, log: Path | None = None) -> None:
    """Append a command line to a log, and print it to stderr if VAULT_CUBE_DEBUG is set."""
    line = "+ " + redacted(shlex.join(map(str, command)))
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as out:
            print(line, file=out)
    if debugging():
        print(line, file=sys.stderr)


def _message(purpose: str, command: Command, problem: str) -> str:
    program = os.path.basename(command[0])  # noqa: PTH119 a program's name is no path of a file here
    return f"{purpose}: {program} {problem}" if purpose else f"{program} {problem}"


def command(
    words: Command, seconds: int, *, env: Mapping[str, str] | None = None, input: bytes | None = None
) -> Result:
    """Run a command with a time limit in seconds, for checks: a missing or hanging program is an observation.

    Returns status and output: status 127 for a missing program and 124 for a timeout, with a message in stderr. Raises
    neither error.
    """
    try:
        return run(words, timeout_s=seconds, ok=None, env=env, input=input)
    except Missing:
        return Result(127, "", f"{words[0]}: not installed")
    except TimedOut:
        return Result(124, "", f"{words[0]}: no answer within {seconds} s")


def last_line(text: str) -> str:
    """Return the last line of a program's output, which usually has the cause of an error; shorten a long one.

    At most 300 characters: the beginning and the end of the line.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return last if len(last) <= LINE else f"{last[:100]} … {last[-197:]}"


def log_tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, each shortened to LINE characters; empty if the log cannot be read."""
    try:
        text = redacted(log.read_text(errors="replace")).splitlines()
    except OSError:
        return ""
    return "\n".join(line if len(line) <= LINE else line[:LINE] + " …" for line in text[-lines:])
