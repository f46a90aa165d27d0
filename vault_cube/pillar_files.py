"""The files of a pillar as Salt reads them. Each error is one line with file, line and key.

Salt reports such errors as "Please see master log for details", without file and line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vault_cube.errors import VaultCubeError

Render = Callable[[Path, str], str]
"""Renders the Jinja of a pillar file's text. Raises JinjaError."""
Load = Callable[[str], Any]
"""Salt's YAML loader, which refuses duplicate keys. Raises yaml.YAMLError."""

JINJA_MARKS = ("{{", "{%", "{#")
PROBLEMS = (
    (r"found a tab character.*", "a tab in the indentation: use blanks"),
    (r"found character .*cannot start any token", "a value must not begin with this character: quote it"),
    (r"found conflicting ID '(.*)'", r"key \1 is set twice in the same mapping: remove one"),
    (r"(mapping values are not allowed.*)", r"\1: quote the value if it contains ': ', or correct the indentation"),
    (r"(did not find expected (?:key|<block end>|'-' indicator).*)", r"\1: correct the indentation"),
    (r"found unacceptable key .*|found unhashable key", "a mapping or list as a key: quote it"),
)
"""Messages of the YAML parser, and what they mean to the author of a pillar file."""


class JinjaError(Exception):
    """Jinja cannot render a pillar file. line: in the file, from 1; None if unknown."""

    def __init__(self, message: str, line: int | None) -> None:
        self.line = line
        super().__init__(message)


@dataclass(frozen=True)
class PillarFile:
    """A pillar file: its YAML after Jinja, and its text as written, in which lines are counted."""

    path: Path
    yaml: str
    text: str

    @classmethod
    def plain(cls, path: Path) -> PillarFile:
        """Read a file without Jinja. Raises OSError or UnicodeDecodeError."""
        text = path.read_text(encoding="utf-8-sig")
        return cls(path, text, text)

    def line(self, number: int) -> int | None:
        """Return the line of the file for a line of the YAML, both from 1; None if Jinja moved it out of sight."""
        rendered, written = self.yaml.splitlines(), self.text.splitlines()
        if len(rendered) == len(written) or number > len(rendered):
            return min(number, len(written) + 1)
        same = [place for place, line in enumerate(written, 1) if line == rendered[number - 1]]
        return same[0] if len(same) == 1 else None

    def find(self, key: Sequence[str]) -> tuple[int, int | None]:
        """Find a key. Returns how many parts of its path the file sets, and the line of the last of them."""
        try:
            node = yaml.compose(self.yaml, yaml.CSafeLoader)
        except yaml.YAMLError:
            return 0, None
        number = None
        for depth, part in enumerate(key):
            below = _below(node, part)
            if below is None:
                return depth, number
            mark, node = below
            number = self.line(mark.line + 1)
        return len(key), number


def shown(file: Path) -> str:
    """Return a pillar file's path below the checkout, such as `pillar/targets/debian-12.sls`."""
    return "/".join(file.parts[file.parts.index("pillar") :]) if "pillar" in file.parts else str(file)


def read_all(root: Path, target: str, render: Render, load: Load) -> tuple[list[PillarFile], list[str]]:
    """Read the pillar files of a target as Salt does. root: the folder `pillar/`.

    Returns the files in the order in which they are merged, and one line per problem.
    """
    reader = Reader(root, render, load)
    own = root / "targets" / f"{target}.sls"
    for path in (root / "box.sls", own, root / "local.sls"):
        if path.exists():
            reader.add(path)
        elif path == own:
            targets = ", ".join(sorted(file.stem for file in own.parent.glob("*.sls")))
            reader.problems.append(f"{shown(own)}: no such target; pillar/targets/ has {targets}")
        elif path.name == "box.sls":
            reader.problems.append(f"{shown(path)}: this file is missing: restore it")
    return reader.files, reader.problems


@dataclass
class Reader:
    """Collects pillar files, with those that they include, and their problems."""

    root: Path
    render: Render
    load: Load
    files: list[PillarFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _seen: set[Path] = field(default_factory=set)

    def add(self, path: Path) -> None:
        """Read a file, after the files that it includes, which is the order in which Salt merges them."""
        if path in self._seen:
            return
        self._seen.add(path)
        try:
            file, data = read(path, self.render, self.load)
            names = _includes(file, data)
        except VaultCubeError as err:
            self.problems.append(str(err))
            return
        for name in names:
            stem = self.root / name.replace(".", "/")
            included = [stem.with_name(f"{stem.name}.sls"), stem / "init.sls"]
            existing = next((candidate for candidate in included if candidate.is_file()), None)
            if existing:
                self.add(existing)
            else:
                self.problems.append(_where(file, ["include"], f"no such file: {shown(included[0])}"))
        self.files.append(file)


def _includes(file: PillarFile, data: Mapping[str, Any]) -> list[str]:
    names = data.get("include", [])
    if not isinstance(names, list):
        raise VaultCubeError(_where(file, ["include"], "must be a list of pillar files, such as [targets.debian-13]"))
    return [str(next(iter(name)) if isinstance(name, dict) else name) for name in names]


def _where(file: PillarFile, key: Sequence[str], problem: str) -> str:
    _, number = file.find(key)
    return ": ".join(filter(None, (shown(file.path), f"line {number}" if number else "", ":".join(key), problem)))


def read(path: Path, render: Render, load: Load) -> tuple[PillarFile, Mapping[str, Any]]:
    """Read one pillar file. Returns it and its values. Raises VaultCubeError with one line."""
    text = _text(path)
    renderers = text.partition("\n")[0][2:].strip().split("|") if text.startswith("#!") else ["jinja", "yaml"]
    if "yaml" not in renderers:
        # a file in another language, which only Salt can render; its values are still checked against the schema
        return PillarFile(path, "", text), {}
    rendered = text
    if "jinja" in renderers and any(mark in text for mark in JINJA_MARKS):
        try:
            rendered = render(path, text)
        except JinjaError as err:
            raise VaultCubeError(_located(path, text, err.line, _jinja_problem(text, err))) from None
    file = PillarFile(path, rendered, text)
    try:
        data = load(rendered)
    except yaml.YAMLError as err:
        raise VaultCubeError(_yaml_problem(file, err)) from None
    except ValueError as err:
        raise VaultCubeError(f"{shown(path)}: {err}") from None
    if data is not None and not isinstance(data, Mapping):
        kind = "a list" if isinstance(data, list) else "a single value"
        raise VaultCubeError(f"{shown(path)}: line 1: the file must be a mapping of sections such as base:, not {kind}")
    return file, data or {}


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as err:
        raise VaultCubeError(f"{shown(path)}: cannot be read: {err.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        number = data[: err.start].count(b"\n") + 1
        problem = f"byte {data[err.start]:#04x} is not UTF-8: save the file as UTF-8"
        raise VaultCubeError(_located(path, data.decode(errors="replace"), number, problem)) from None


def _jinja_problem(text: str, err: JinjaError) -> str:
    problem = " ".join(str(err).split())
    line = text.splitlines()[err.line - 1] if err.line and err.line <= len(text.splitlines()) else ""
    if line.lstrip().startswith("#"):
        problem += " (Jinja also reads comments: put {% raw %} around the braces, or remove them)"
    return problem


def _yaml_problem(file: PillarFile, err: yaml.YAMLError) -> str:
    mark = getattr(err, "problem_mark", None)
    if mark:
        number = mark.line + 1
    elif isinstance(err, yaml.reader.ReaderError):
        number = file.yaml[: err.position].count("\n") + 1
    else:
        number = None
    problem = str(getattr(err, "problem", None) or getattr(err, "reason", None) or err).splitlines()[0]
    if mark and "".join(file.yaml.splitlines()[mark.line : mark.line + 1])[mark.column :].startswith("\t"):
        problem = "found a tab character"
    for pattern, meaning in PROBLEMS:
        if re.fullmatch(pattern, problem):
            problem = re.sub(pattern, meaning, problem)
            break
    line = file.line(number) if number else None
    if number and line is None:
        problem += f", in what Jinja makes of the file: «{file.yaml.splitlines()[number - 1].strip()}»"
    return _located(file.path, file.text, line, problem)


def _located(path: Path, text: str, number: int | None, problem: str) -> str:
    """Return an error line: file, line, problem, and the key that the line belongs to."""
    key = _key_at(text.splitlines(), number) if number else ""
    return ": ".join(filter(None, (shown(path), f"line {number}" if number else "", problem))) + (
        key and f" (key {key})"
    )


def _key_at(lines: Sequence[str], number: int) -> str:
    """Return the path of the key that a line belongs to, derived from the indentation; lines count from 1."""
    path: list[str] = []
    limit = None
    for line in reversed(lines[:number]):
        match = re.match(r"([ \t]*)(?:- )?[\"']?([\w./+-]+)[\"']?[ \t]*:(?:\s|$)", line)
        if match and (limit is None or len(match[1]) < limit):
            path.insert(0, match[2])
            limit = len(match[1])
    return ":".join(path)


def _below(node: yaml.Node | None, part: str) -> tuple[yaml.Mark, yaml.Node] | None:
    """Return the mark and the value of a key of a mapping, or of an item of a list; None if there is none."""
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        item = node.value[int(part)]
        return item.start_mark, item
    return None
