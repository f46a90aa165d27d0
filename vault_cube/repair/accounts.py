"""Find accounts that have a password or that are shut out, and repair them: shadow(5)."""

from __future__ import annotations

import datetime
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError

SHADOW = Path("/etc/shadow")
NEVER = 99999
"""Days after which shadow(5) lets a password expire: never."""


def problems(name: str, shadow: Path = SHADOW) -> dict[str, str] | None:
    """Return what is wrong with an account, as field -> value: a password, or an end of its use.

    None if there is no such account. Raises VaultCubeError if the file cannot be read.
    """
    try:
        lines = shadow.read_text().splitlines()
    except OSError as err:
        raise VaultCubeError(f"{shadow}: {err.strerror}: run as root") from err
    fields = next((line.split(":") for line in lines if line.split(":")[0] == name), None)
    if fields is None:
        return None
    if len(fields) < 9:
        raise VaultCubeError(
            f"{shadow}: the line of {name} has {len(fields)} of nine fields: restore it from /etc/shadow-"
        )
    _, password, changed, _, maximum, _, inactive, expires, _ = fields[:9]
    wrong = {}
    # crypt(5): no password has a hash that begins with one of these characters
    if not password.startswith(("!", "*")):
        wrong["password"] = "set" if password else "empty"
    if changed == "0":
        wrong["password change"] = "demanded at the next login"
    if maximum and int(maximum) < NEVER:
        wrong["password age"] = f"{maximum} days"
    if inactive and int(inactive) >= 0:
        wrong["inactivity"] = f"{inactive} days"
    if expires and int(expires) >= 0:
        wrong["expiry"] = str(datetime.date(1970, 1, 1) + datetime.timedelta(days=int(expires)))
    return wrong


def repair(name: str, wrong: dict[str, str]) -> None:
    """Remove what `problems` reports. Raises CommandFailed."""
    today = datetime.datetime.now(datetime.UTC).date()
    options = {
        "password change": ["chage", "--lastday", str(today)],
        "password age": ["chage", "--maxdays", str(NEVER)],
        "inactivity": ["chage", "--inactive", "-1"],
        "expiry": ["chage", "--expiredate", "-1"],
        "password": ["usermod", "--password", "!"],
    }
    for what in wrong:
        process.run([*options[what], name], purpose=f"account {name}: {what}")
