"""Run the commands of a page as a reader does: one after the other, in one shell, so that `cd` lasts."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from blocks import TOP, Block, Command

GOALS_OF_CI = {"boot", *re.findall(r"^[^#\n]*?\bmake ([a-z-]+)", (TOP / ".ci/run").read_text(), re.MULTILINE)}
"""Goals that .ci/run builds and tests; of `make boot` it tests only the functions that boot the guest."""
END = "--- end of a command"


def of_ci(command: Command) -> bool:
    """Return whether `.ci/run` runs this command, which takes minutes."""
    words = command.text.split()
    return words[0] == "make" and words[1] in GOALS_OF_CI and words[1] not in {"lint", "docs"}


def script_of(commands: Sequence[Command], names: Mapping[str, str]) -> str:
    """Return a shell script of commands. After each it prints `END` and the exit status.

    names: what the page writes -> what a reader puts in its place.
    """
    lines = []
    for command in commands:
        text = named(command.text, names)
        if "…" in text or "<" in re.sub(r"< [\w.]+|<<", "", text):
            raise AssertionError(f"the test puts nothing in place of a name in: {text}")
        lines += [text, f"status=$?; echo; echo {shlex.quote(END)} $status"]
    return "\n".join(lines) + "\n"


def named(text: str, names: Mapping[str, str]) -> str:
    """Return a text of a page with the names that a reader puts in place of the page's."""
    for name, value in names.items():
        text = text.replace(name, value)
    return text


def pattern_of(text: str, names: Mapping[str, str]) -> str:
    """Return the pattern of what a page shows as output; an ellipsis stands for anything."""
    return ".*".join(map(re.escape, named(text, names).split("…")))


def results(output: str) -> list[tuple[int, str]]:
    """Return the exit status and the output of each command."""
    parts = re.split(rf"\n{re.escape(END)} (\d+)\n", output)
    return [(int(status), text) for text, status in zip(parts[::2], parts[1::2], strict=False)]


def run(
    blocks: Sequence[Block],
    shell: Callable[[str], str],
    *,
    names: Mapping[str, str] | None = None,
    skipped: Callable[[Command], bool] = of_ci,
    any_status: Callable[[Command], bool] = lambda _: False,
) -> list[str]:
    """Run the commands of blocks, and check their exit status and what the page says that they print.

    shell: runs a script, returns its stdout and stderr. skipped: whether a command is left out. any_status: whether a
    command may end with any exit status. Returns the outputs.
    """
    names = names or {}
    commands = [(block, command) for block in blocks for command in block.commands if not skipped(command)]
    assert commands, "no command to run"
    output = shell(script_of([command for _, command in commands], names))
    ran = results(output)
    printed: dict[Block, str] = dict.fromkeys(blocks, "")
    for (block, command), (status, text) in zip(commands, ran, strict=False):
        printed[block] += f"{text}\n"
        place = f"{block.page}:{block.line}: {command.text}\n{text}"
        assert "Traceback" not in text, place
        assert any_status(command) or status == command.status, f"exit code {status}, not {command.status}: {place}"
        for quoted in command.printed:
            assert re.search(pattern_of(quoted, names), text), f"does not print {quoted}: {place}"
    assert len(ran) == len(commands), f"the shell ended early: {output[-2000:]}"
    for block, text in printed.items():
        for line in block.output:
            assert re.search(pattern_of(line, names), text), (
                f"{block.page}:{block.line}: does not print {line}:\n{text}"
            )
    return [text for _, text in ran]


def bash(folder: Path, environment: Mapping[str, str], timeout_s: float = 120) -> Callable[[str], str]:
    """Return a function that runs a script in a folder of this machine."""

    def shell(script: str) -> str:
        ran = subprocess.run(
            ["bash"], input=script, cwd=folder, env=dict(environment), text=True, timeout=timeout_s, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return ran.stdout

    return shell


def one_line(text: str) -> str:
    """Return the one line of an error; make's own last line does not count."""
    lines = [line for line in text.splitlines() if line.strip() and not re.match(r"make(\[\d\])?: \*\*\*", line)]
    if len(lines) != 1:
        pytest.fail(f"not one line:\n{text}")
    return lines[0]
