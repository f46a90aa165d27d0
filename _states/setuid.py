"""Take the setuid and setgid bits from programs, also for later versions of their packages.

Not cmd.run with `unless`: to evaluate one, Salt loads all its modules, which takes 1 s in every run.
"""

import stat
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError, shown

OVERRIDES = Path("/var/lib/dpkg/statoverride")
MODE = "755"


def removed(name):
    """
    Ensure that a program has neither a setuid nor a setgid bit, and that dpkg keeps it so.

    name
        path of the program; it may be missing

    .. code-block:: yaml

        /usr/bin/chfn has no setuid and no setgid:
          setuid.removed:
            - name: /usr/bin/chfn
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} has neither bit"}
    try:
        wrong = _problem(Path(name))
        if not wrong:
            return ret
        ret["changes"] = {name: {"old": wrong, "new": f"root root 0{MODE}, in dpkg's list"}}
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"{name} would get root root 0{MODE}"}
        process.run(
            ["dpkg-statoverride", "--force-statoverride-add", "--update", "--add", "root", "root", f"0{MODE}", name]
        )
    except (VaultCubeError, OSError) as err:
        return {**ret, "result": False, "changes": {}, "comment": shown(err)}
    return ret


def _problem(program):
    """Describe in a few words what differs; empty if nothing does."""
    lines = OVERRIDES.read_text().splitlines() if OVERRIDES.exists() else []
    if not any(_is_ours(line, program) for line in lines):
        return "not in dpkg's list"
    if not program.exists():
        return ""
    status = program.stat()
    mode = stat.S_IMODE(status.st_mode)
    return "" if (status.st_uid, status.st_gid, mode) == (0, 0, int(MODE, 8)) else f"mode {mode:04o}"


def _is_ours(line, program):
    """Return whether a line of dpkg's list (owner, group, mode, path) gives a program to root, with our mode."""
    owner, group, mode, path = line.split(maxsplit=3)
    return (owner, group, mode.lstrip("0"), path) == ("root", "root", MODE, str(program))
