"""Compare accounts line by line, and the ssh keys that may log in with those that the pillar and the seed name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vault_cube.drift.reading import text

FIELDS: Mapping[str, tuple[str, ...]] = {
    "passwd": ("name", "password", "uid", "gid", "comment", "home", "shell"),
    "group": ("name", "password", "gid", "members"),
    # the day of the last change is no setting
    "shadow": ("name", "password", "", "minimum", "maximum", "warning", "inactive", "expiry", "flag"),
    "gshadow": ("name", "password", "administrators", "members"),
    "subuid": ("name", "first", "count"),
    "subgid": ("name", "first", "count"),
}
"""Fields of each table: passwd(5), group(5), shadow(5), gshadow(5), subuid(5). Those without a name do not count."""
SECRET = ("password",)
LISTS = ("members", "administrators")
SEED = ("var/lib/cloud/instance/user-data.txt", "var/lib/cloud/instance/vendor-data.txt",
        "run/cloud-init/instance-data-sensitive.json")  # fmt: skip
"""Files in which cloud-init keeps the seed; only root can read them."""
KEY = re.compile(r"\b(?:ssh-\w+|ecdsa-sha2-\w+|sk-[\w@.-]+) (AAAA[\w+/=]+)")
REFUSED = "Please login as the user"
"""cloud-init puts a command with these words before the keys that it gives to root."""


@dataclass(frozen=True)
class Change:
    """A difference of an account or of a key."""

    what: str
    """Such as `account eve` or `group docker`."""
    change: str
    name: str
    """Name of the account or group."""
    added: bool
    """Whether the line was added as a whole, or only members were added."""
    dangerous: bool = False
    """Whether no declaration makes it harmless: a second uid 0, a password, root's key."""


def compare(place: str, before: str, after: str) -> Iterator[Change]:
    """Compare a table with the image's. place: path such as `etc/passwd`."""
    table = place.rpartition("/")[2]
    names = FIELDS[table]
    old, new = _rows(before), _rows(after)
    subject = "group" if table in ("group", "gshadow") else "account"
    for name in sorted(old.keys() | new.keys()):
        what = f"{subject} {name} in /{place}"
        if name not in new:
            yield Change(what, "removed", name, added=False)
        elif name not in old:
            row = dict(zip(names, new[name], strict=False))
            details = ", ".join(f"{key} {row[key]}" for key in ("uid", "gid", "shell", "members") if row.get(key))
            yield Change(what, f"added{f': {details}' if details else ''}", name, True, _dangerous(table, row))
        else:
            yield from _fields(what, name, table, old[name], new[name])


def _rows(text: str) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split(":")
        # a second line with the same name, as one for uid 0 could be, gets a name of its own
        name = parts[0] if parts[0] not in rows else f"{parts[0]} (line {number})"
        if line.strip():
            rows[name] = parts
    return rows


def _dangerous(table: str, row: Mapping[str, str]) -> bool:
    if table == "passwd":
        return row.get("uid") == "0" or row.get("password", "x") != "x"
    return table == "shadow" and not _locked(row.get("password", ""))


def _locked(password: str) -> bool:
    return password[:1] in ("!", "*")


def _fields(what: str, name: str, table: str, old: list[str], new: list[str]) -> Iterator[Change]:
    for number, field in enumerate(FIELDS[table]):
        before, after = ("".join(parts[number : number + 1]) for parts in (old, new))
        if not field or before == after:
            continue
        if field in LISTS:
            members, were = set(after.split(",")) - {""}, set(before.split(",")) - {""}
            words = [f"+{member}" for member in sorted(members - were)] + [f"-{m}" for m in sorted(were - members)]
            if words:
                yield Change(what, f"{field} {' '.join(words)}", name, members > were)
        elif field in SECRET:
            if _locked(before) != _locked(after) or not _locked(after):
                state = "locked" if _locked(after) else "set" if after else "empty"
                yield Change(what, f"password is {state}", name, added=False, dangerous=True)
        else:
            yield Change(what, f"{field} {before or 'none'} → {after or 'none'}", name, False, field == "uid")


def members_added(change: str) -> list[str]:
    """Return the names that a change adds to a group."""
    return re.findall(r"\+(\S+)", change) if change.startswith(LISTS) else []


def seed_text(root: Path) -> str:
    """Return everything that cloud-init kept of the seed."""
    texts = []
    for place in SEED:
        try:
            texts.append(text(root / place))
        except OSError:
            continue
    return "\n".join(texts)


def homes(root: Path) -> dict[str, str]:
    """Return account → home folder, relative to the root, of all accounts."""
    try:
        rows = [line.split(":") for line in text(root / "etc/passwd").splitlines()]
    except OSError:
        return {}
    return {row[0]: row[5].strip("/") for row in rows if len(row) > 6}


def keys(root: Path, accepted: Iterable[str]) -> Iterator[Change]:
    """List the ssh keys that may log in although neither the seed nor `accepted` names them.

    accepted: public keys, such as those of the pillar.
    """
    known = set(KEY.findall("\n".join((seed_text(root), *accepted))))
    for account, home in homes(root).items():
        for file in ("authorized_keys", "authorized_keys2"):
            path = f"{home}/.ssh/{file}"
            try:
                lines = text(root / path).splitlines()
            except OSError:
                continue
            for line in lines:
                blobs = [] if line.lstrip().startswith("#") else KEY.findall(line)
                refused = account == "root" and REFUSED in line.partition(" ssh-")[0]
                for blob in blobs:
                    if blob not in known or (account == "root" and not refused):
                        comment = line.rpartition(blob)[2].strip() or f"…{blob[-12:]}"
                        yield Change(f"/{path}", f"key {comment} may log in", account, added=False, dangerous=True)
