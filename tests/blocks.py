"""The code blocks of the documentation, and how each of them is tested.

A block of commands has a mark in the line before it, such as `<!-- runs: quick -->`. The marks are the keys of `MARKS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TOP = Path(__file__).parents[1]

MARKS = {
    "quick": "`make test` runs it in a fresh clone, in seconds (tests/first_use/test_quick_blocks.py)",
    "image": "`make test-slow` runs it in the tree of the built image (tests/integration/test_blocks_in_image.py)",
    "slow": "`make test-slow` runs it in a bare Debian (tests/first_use/test_bare_debian.py)",
    "ci": "`.ci/run` runs its commands",
    "box": "needs a booted box, its hardware or a network: no test runs it",
    "release": "needs a build of its own, or an archive that publishes: no test runs it",
    "example": "the output of a command, or the content of a file",
}
# pillar fragments are checked by tests/unit/docs/test_examples.py, diagrams by `make docs`
WITHOUT_MARK = {"yaml", "dot", "python"}
WITHOUT_BLOCKS_OF_OURS = (
    "CHANGELOG.md",
    "docs/commands.md",
    "docs/decisions/",
    "docs/measurements.md",
    "docs/reference/",
)
"""Pages that are generated, or that may show commands that do not exist any more."""

WIDTH = 102
"""The most characters of a line in a console block for which the site has room."""

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- runs: (\w+) -->\n *\Z")


@dataclass(frozen=True)
class Command:
    """A line that a reader types."""

    text: str
    """What is typed, with continuation lines, without the prompt."""
    as_root: bool
    comment: str
    """The comment behind the command; what it puts in double quotes is printed."""

    @property
    def printed(self) -> list[str]:
        """What the comment puts in double quotes; an ellipsis stands for anything."""
        return re.findall(r'"([^"]+)"', self.comment)

    @property
    def status(self) -> int:
        """The exit status that the comment names; 0 if it names none."""
        named = re.search(r"exit(?:s with)? code (\d+)", self.comment)
        return int(named[1]) if named else 0


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: str
    line: int
    language: str
    mark: str | None
    text: str

    @property
    def commands(self) -> list[Command]:
        """The commands of a console block: lines that begin with `# ` are typed as root, with `$ ` as any user."""
        joined = re.sub(r" *\\\n *", " ", self.text)
        commands = []
        for line in joined.splitlines():
            prompt = re.fullmatch(r"([#$]) (.*?)(?:\s{2,}# (.*))?", line)
            if prompt:
                commands.append(Command(prompt[2].strip(), prompt[1] == "#", prompt[3] or ""))
        return commands

    @property
    def output(self) -> list[str]:
        """The lines of a console block that are no commands: what the last command before them prints."""
        lines = re.sub(r" *\\\n *", " ", self.text).splitlines()
        return [line for line in lines if not re.match(r"[#$] ", line)]


@cache
def pages() -> tuple[Path, ...]:
    """All pages that are written by hand."""
    files = [file for pattern in ("*.md", "docs/**/*.md", "*/*/README.md") for file in TOP.glob(pattern)]
    return tuple(sorted({file for file in files if not str(file.relative_to(TOP)).startswith(WITHOUT_BLOCKS_OF_OURS)}))


def of_text(page: str, text: str) -> list[Block]:
    """Return the fenced blocks of a page's text."""
    blocks = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        mark = MARK.search(before)
        lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines()]
        number = before.count("\n") + 1
        blocks.append(Block(page, number, match["language"], mark[1] if mark else None, "\n".join(lines)))
    return blocks


@cache
def all_blocks() -> tuple[Block, ...]:
    """All fenced blocks of all pages."""
    return tuple(
        block for page in pages() for block in of_text(str(page.relative_to(TOP)), page.read_text(encoding="utf-8"))
    )


def marked(mark: str, page: str | None = None) -> list[Block]:
    """Return the blocks with a mark, of all pages or of one."""
    return [block for block in all_blocks() if block.mark == mark and page in (None, block.page)]


def unfenced(text: str) -> list[int]:
    """Return the first lines of blocks that are only indented; in a list, lines that begin with a prompt."""
    numbers, in_list, before = [], False, ""
    outside = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
    for number, line in enumerate(outside.splitlines(), 1):
        if re.match(r" *([*-]|\d+\.) ", line):
            in_list = True
        elif re.match(r"\S", line) and not before:
            in_list = False
        if re.match(r" {4,}[#$] " if in_list else r" {4}\S", line) and not before:
            numbers.append(number)
        before = line.strip()
    return numbers


def problems(page: str, text: str) -> list[str]:
    """Return what is wrong with the blocks of a page: one line each, with its place and what to do."""
    lines = []
    for number in unfenced(text):
        lines.append(f"{page}:{number}: a block without a fence: put it between ```console and ```")
    for block in of_text(page, text):
        place = f"{page}:{block.line}"
        if block.mark is None and block.language not in WITHOUT_MARK:
            lines.append(f"{place}: a block without a mark: write <!-- runs: MARK --> before it: {', '.join(MARKS)}")
        elif block.mark not in {None, *MARKS}:
            lines.append(f"{place}: no such mark: {block.mark}: use one of {', '.join(MARKS)}")
        elif block.language == "console" and max(map(len, block.text.splitlines())) > WIDTH:
            lines.append(f"{place}: a line of more than {WIDTH} characters: its end is hidden on the site")
        elif block.mark not in {None, "example"} and not block.commands:
            lines.append(f"{place}: no command in it: begin each with `# ` (root) or `$ `, or mark it as an example")
    return lines
