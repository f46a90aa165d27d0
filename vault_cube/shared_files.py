"""Text of files that the states share with the box's owner and with programs: our entries are set, all others are kept.

Each function takes the file's present text and returns a `Merged`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BEGIN, END = "# begin: written by {by}; entries outside of this block are kept", "# end: written by {by}"
ANY_BLOCK = re.compile(
    f"^{re.escape(BEGIN)}$.*?^{re.escape(END)}$".replace(r"\{by\}", "(?P<by>.+)", 1).replace(r"\{by\}", "(?P=by)"),
    re.M | re.S,
)
# ufw stores a rule's comment as hexadecimal digits (ufw/backend_iptables.py, _write_rules)
OUR_RULE = "comment=" + b"vault-cube".hex()
TUPLE = "### tuple ### "


@dataclass(frozen=True)
class Merged:
    """A file's text with our entries."""

    text: str
    others: list[str] = field(default_factory=list)
    """Entries of the owner or of other programs."""
    damage: str = ""
    """Why the present text could not be read, so that its content is lost; empty if nothing is lost."""


def block(text: str, lines: Sequence[str], by: str) -> Merged:
    """Put our lines between two comments, at their present place or at the end of the file.

    by: the state file that owns them. Lines outside that equal ours are removed, because images of version 1.0.0 have
    them there. Without lines, the block is removed.
    """
    begin, end = BEGIN.format(by=by), END.format(by=by)
    present = text.splitlines()
    if begin in present:
        place = present.index(begin)
        after = present[place:]
        # without its last line, a block ends before the first line that is not ours
        length = (
            after.index(end) + 1
            if end in after
            else 1 + next((n for n, line in enumerate(after[1:]) if line not in lines), len(after) - 1)
        )
        head, tail = present[:place], present[place + length :]
    else:
        head, tail = present, []
    ours, old = {*lines, begin, end}, f"# written by {by}"
    head, tail = ([line for line in part if line not in ours and not line.startswith(old)] for part in (head, tail))
    own = [begin, *lines, end] if lines else []
    result = [*head, *own, *tail]
    return Merged("".join(f"{line}\n" for line in result), _others([*head, *tail]))


def _others(lines: Sequence[str]) -> list[str]:
    """Return the lines that are neither empty, nor a comment, nor in the block of another of our state files."""
    outside = ANY_BLOCK.sub("", "\n".join(lines))
    return [line for line in outside.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def hosts(text: str, entries: Mapping[str, Sequence[str]]) -> Merged:
    """Make each address of hosts(5) have our names.

    entries: names by address. A name that is missing is added to the address's first line, or in a new line.
    """
    lines = text.splitlines()
    others = []
    for address, names in entries.items():
        places = [n for n, line in enumerate(lines) if _words(line)[:1] == [address]]
        missing = [name for name in names if not any(name in _words(lines[n])[1:] for n in places)]
        if places and missing:
            fields, mark, comment = lines[places[0]].partition("#")
            words = fields.split()
            lines[places[0]] = " ".join([words[0], *missing, *words[1:]]) + (f"  {mark}{comment}" if mark else "")
        elif missing:
            lines.append(" ".join([address, *names]))
    for line in lines:
        words = _words(line)
        if words and any(name not in entries.get(words[0], ()) for name in words[1:]):
            others.append(line)
    return Merged("".join(f"{line}\n" for line in lines), others)


def _words(line: str) -> list[str]:
    return line.partition("#")[0].split()


def json_object(text: str, values: Mapping[str, Any]) -> Merged:
    """Set our keys of a JSON object, at any depth, and keep all others.

    In a list, an entry KEY=VALUE replaces those with the same KEY; other entries are kept.
    """
    damage = ""
    present: Any = {}
    if text.strip():
        try:
            present = json.loads(text)
        except ValueError as err:
            damage = f"not JSON: {err}"
        if not damage and not isinstance(present, dict):
            damage = f"not a JSON object, but {type(present).__name__}"
    if damage:
        present = {}
    merged = _with(present, values)
    same = merged == present and bool(text.strip()) and not damage
    others = [key for key in present if key not in values]
    return Merged(text if same else json.dumps(merged, indent=2, sort_keys=True) + "\n", others, damage)


def _with(present: Any, ours: Any) -> Any:
    if isinstance(ours, Mapping):
        present = present if isinstance(present, Mapping) else {}
        return {**present, **{key: _with(present.get(key), value) for key, value in ours.items()}}
    if isinstance(ours, list) and isinstance(present, list):
        keys = {str(entry).partition("=")[0] for entry in ours if "=" in str(entry)}
        kept = [entry for entry in present if entry not in ours and str(entry).partition("=")[0] not in keys]
        return present if not kept and present == ours else [*kept, *ours]
    return ours


def assignments(text: str, values: Mapping[str, str], defaults: Mapping[str, str]) -> Merged:
    """Set our values of a file of KEY=VALUE lines, and keep all other lines.

    defaults: values for keys that the file lacks, such as those of an emptied file. The last line of a key counts.
    """
    lines = [line for line in text.splitlines() if "\0" not in line]
    damage = "" if len(lines) == len(text.splitlines()) else "it has NUL bytes"
    for key, value in {**defaults, **values}.items():
        places = [n for n, line in enumerate(lines) if re.match(rf"\s*{re.escape(key)}\s*=", line)]
        if not places:
            lines.append(f"{key}={value}")
        elif key in values:
            for n in places:
                lines[n] = f"{key}={value}"
    return Merged("".join(f"{line}\n" for line in lines), [], damage)


def other_rules(text: str, ports: Sequence[int]) -> list[str]:
    """Return the rules of /etc/ufw/user.rules that the owner has made with `ufw`, each with its comment line.

    ports: ours. A rule of ours that has no comment, as in images of version 1.0.0, is not the owner's.
    """
    section = re.search(r"^### RULES ###$(.*?)^### END RULES ###$", text, re.M | re.S)
    rules = section.group(1).split(TUPLE)[1:] if section else []
    plain = re.compile(
        rf"allow tcp ({'|'.join(map(str, ports)) or 'none'}) (0\.0\.0\.0|::)/0 any (0\.0\.0\.0|::)/0 in$"
    )
    theirs = []
    for rule in rules:
        description, _, lines = rule.partition("\n")
        if OUR_RULE not in description.split() and not plain.match(description):
            theirs.append(f"{TUPLE}{description}\n{lines.strip()}")
    return theirs
