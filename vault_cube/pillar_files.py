"""The files of a pillar as Salt reads them. Each error is one line with file, line and key.

Salt reports such errors as "Please see master log for details", without file and line, or ends with a traceback.
pillar/top.sls therefore lets Salt read the files only if they have no problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vault_cube.errors import VaultCubeError

Render = Callable[[Path, str], str]
"""Renders the Jinja of a pillar file's text. Raises RenderError."""
Load = Callable[[str], Any]
"""Salt's YAML loader, which refuses duplicate keys. Raises yaml.YAMLError."""
Compile = Callable[[Path], Any]
"""Renders a file whose first line names other renderers, such as `#!py`. Raises RenderError."""

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


class RenderError(Exception):
    """A renderer of Salt cannot render a pillar file. line: in the file, from 1; None if unknown."""

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


def read_all(
    root: Path, target: str, render: Render, load: Load, other: Compile | None = None
) -> tuple[list[PillarFile], list[str]]:
    """Read the pillar files of a target as Salt does. root: the folder `pillar/`.

    other: renders files in other languages than YAML; None: they are not rendered. Returns the files in the order in
    which they are merged, and one line per problem.
    """
    reader = Reader(root, render, load, other)
    own = root / "targets" / f"{target}.sls"
    for path in (root / "box.sls", own, root / "local.sls"):
        # a link to a file that is gone is an error, not a missing file
        if path.exists() or path.is_symlink():
            reader.add(path)
        elif path == own:
            targets = ", ".join(sorted(file.stem for file in own.parent.glob("*.sls")))
            reader.problems.append(f"{shown(own)}: no such target; pillar/targets/ has {targets}")
        elif path.name == "box.sls":
            reader.problems.append(f"{shown(path)}: this file is missing: restore it")
    try:
        # these name the files above
        for path in () if reader.problems else (root / "target.sls", root / "top.sls"):
            _check_frame(path, load)
    except VaultCubeError as err:
        reader.problems.append(str(err))
    return reader.files, reader.problems


def _check_frame(path: Path, load: Load) -> None:
    """Check top.sls or target.sls without their Jinja, which calls this module or includes the target's file.

    Raises VaultCubeError with one line.
    """
    if not path.exists():
        raise VaultCubeError(f"{shown(path)}: this file is missing: restore it")
    file, data = read(path, lambda _path, text: re.sub(r"(?s){([#%]).*?\1}", "", text), load)
    for environment, globs in data.items():
        for glob, names in globs.items() if isinstance(globs, Mapping) else ():
            entries = names if isinstance(names, list) else []
            optional = any(isinstance(entry, Mapping) and entry.get("ignore_missing") for entry in entries)
            for number, name in enumerate(entries):
                stem = path.parent / str(name).replace(".", "/")
                exists = stem.is_dir() or stem.with_name(f"{stem.name}.sls").exists()
                if isinstance(name, str) and not exists and not optional:
                    missing = f"no such file: {shown(stem)}.sls"
                    raise VaultCubeError(_where(file, [environment, glob, str(number)], missing))


@dataclass
class Reader:
    """Collects pillar files, with those that they include, and their problems."""

    root: Path
    render: Render
    load: Load
    other: Compile | None = None
    files: list[PillarFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _seen: set[Path] = field(default_factory=set)

    def add(self, path: Path) -> None:
        """Read a file, after the files that it includes, which is the order in which Salt merges them."""
        if path in self._seen:
            return
        self._seen.add(path)
        try:
            file, data = read(path, self.render, self.load, self.other)
            names = _includes(file, data)
        except VaultCubeError as err:
            self.problems.append(str(err))
            return
        for name in names:
            # a leading dot: beside this file
            folder = path.parent if name.startswith(".") else self.root
            stem = folder / name.removeprefix(".").replace(".", "/")
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
    files = []
    for number, entry in enumerate(names):
        name, options = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (entry, {})
        # Salt ends with a traceback for all others
        known = isinstance(options, dict) and isinstance(options.get("key", ""), str)
        if not (isinstance(name, str) and re.fullmatch(r"\.?\w[\w./+-]*", name) and known):
            problem = "must be the name of a pillar file, such as targets.debian-13, or {NAME: {key: KEY}}"
            raise VaultCubeError(_where(file, ["include", str(number)], problem))
        files.append(name)
    return files


def _unusable(data: Any, key: tuple[str, ...] = (), above: tuple[int, ...] = ()) -> Iterator[tuple[list[str], str]]:
    """Yield the keys of values that YAML can express and no setting can have, each with the problem."""
    if id(data) in above:
        yield [*key], "contains itself: remove the alias (*)"
        return
    parts = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ()
    for name, value in parts:
        below = (*key, str(name))
        if isinstance(data, Mapping) and not isinstance(name, str):
            yield [*below], "a key must be a string: quote it"
        elif below == ("_errors",):
            yield [*below], "no such key; Salt keeps its own errors under this name"
        yield from _unusable(value, below, (*above, id(data)))


def _where(file: PillarFile, key: Sequence[str], problem: str) -> str:
    _, number = file.find(key)
    return ": ".join(filter(None, (shown(file.path), f"line {number}" if number else "", ":".join(key), problem)))


def read(path: Path, render: Render, load: Load, other: Compile | None = None) -> tuple[PillarFile, Mapping[str, Any]]:
    """Read one pillar file. Returns it and its values. Raises VaultCubeError with one line."""
    text = _text(path)
    names = renderers(text)
    file = PillarFile(path, "", text)
    try:
        if names not in (["jinja", "yaml"], ["yaml"]):
            data = other(path) if other else {}
        else:
            jinja = "jinja" in names and any(mark in text for mark in JINJA_MARKS)
            file = PillarFile(path, render(path, text) if jinja else text, text)
            data = load(file.yaml)
        unusable = next(_unusable(data), None)
    except RenderError as err:
        raise VaultCubeError(_located(path, text, err.line, _render_problem(text, err, names))) from None
    except yaml.YAMLError as err:
        raise VaultCubeError(_yaml_problem(file, err)) from None
    except RecursionError:
        raise VaultCubeError(f"{shown(path)}: mappings or lists in more levels than can be read") from None
    except ValueError as err:
        raise VaultCubeError(f"{shown(path)}: {err}") from None
    if data is not None and not isinstance(data, Mapping):
        kind = "a list" if isinstance(data, list) else "a single value"
        raise VaultCubeError(f"{shown(path)}: line 1: the file must be a mapping of sections such as base:, not {kind}")
    if unusable:
        raise VaultCubeError(_where(file, *unusable))
    return file, data or {}


def renderers(text: str) -> list[str]:
    """Return the names of the renderers that Salt uses for a file's text."""
    first = text.partition("\n")[0].strip()
    # Salt takes the line of a shell script for a comment
    if not first.startswith("#!") or first.startswith("#!/"):
        return ["jinja", "yaml"]
    return [(renderer.split() or [""])[0] for renderer in first[2:].split("|")]


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


def _render_problem(text: str, err: RenderError, names: Sequence[str]) -> str:
    problem = " ".join(str(err).split())
    line = text.splitlines()[err.line - 1] if err.line and err.line <= len(text.splitlines()) else ""
    if "jinja" in names and line.lstrip().startswith("#"):
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
        # True is written as `true`, `yes` or `on`, and None also as an empty key
        special = part in ("True", "False", "None")
        return next(
            (
                (key.start_mark, value)
                for key, value in node.value
                if key.value == part or (special and str(yaml.safe_load(str(key.value))) == part)
            ),
            None,
        )
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        item = node.value[int(part)]
        return item.start_mark, item
    return None
