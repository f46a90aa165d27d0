"""Systemd units that are on, off or masked, right in a chroot and on a running machine.

Salt's service states say True in a chroot and enable nothing; here `systemctl --root=/` edits the links itself.
"""

import subprocess
from pathlib import Path


def __virtual__():
    return True


def enabled(name):
    """
    The unit starts at boot; on a running machine it is started, too.

    name
        the unit with its suffix, such as ``docker.service``

    .. code-block:: yaml

        Docker starts at boot:
          unit.enabled:
            - name: docker.service
    """
    return _turn(
        name,
        # not enabled-runtime: that is gone after the next boot
        wanted=("enabled", "static", "alias", "indirect", "generated"),
        verb="enable",
        live="start",
    )


def disabled(name):
    """
    The unit does not start at boot; on a running machine it is stopped, too.

    .. code-block:: yaml

        no printing:
          unit.disabled:
            - name: cups.service
    """
    return _turn(name, wanted=("disabled", "masked", "static", "not-found"), verb="disable", live="stop")


def masked(name):
    """
    Nothing can start the unit; on a running machine it is stopped, too.

    .. code-block:: yaml

        nothing sleeps:
          unit.masked:
            - name: sleep.target
    """
    return _turn(name, wanted=("masked",), verb="mask", live="stop")


def _turn(name, wanted, verb, live):
    running = _running()
    before = _state(name)
    changes = {}
    if before not in wanted:
        changes[name] = {"old": before, "new": wanted[0]}
    is_active = running and _ask("is-active", name) in ("active", "activating", "reloading")
    if running and before != "static" and (live == "start") != is_active and not _at_rest(name):
        changes[f"{name} now"] = {
            "old": "running" if is_active else "stopped",
            "new": "running" if live == "start" else "stopped",
        }
    ret = {"name": name, "changes": changes, "result": True, "comment": f"{name} is {before}"}
    if not changes:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{name} would be {wanted[0]}"}
    where = [] if running else ["--root=/"]
    ran = []
    if name in changes:
        if before.startswith("masked") and verb != "mask":
            ran.append(["systemctl", *where, "unmask", name])
        ran.append(["systemctl", *where, verb, name])
    if f"{name} now" in changes:
        ran.append(["systemctl", live, name])
    for command in ran:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return {**ret, "changes": {}, "result": False, "comment": f"{' '.join(command)}: {why}"}
    after = _state(name)
    if after not in wanted:
        return {**ret, "changes": {}, "result": False, "comment": f"{name} is {after} after {verb}"}
    return {**ret, "comment": f"{name} is {after}"}


def _running():
    """Is systemd in charge here? In a chroot it is not."""
    return Path("/run/systemd/system").is_dir()


def _state(name):
    """enabled, disabled, masked, static … or not-found."""
    return _ask("is-enabled", name) or "not-found"


def _ask(verb, name):
    root = [] if _running() else ["--root=/"]
    ran = subprocess.run(["systemctl", *root, verb, name], capture_output=True, text=True, check=False)
    return ran.stdout.strip()


def _at_rest(name):
    """A unit that did its work and ended, or whose condition was asked and did not hold, need not run."""
    ran = subprocess.run(
        ["systemctl", "show", "-p", "Type,Result,ConditionResult,ConditionTimestampMonotonic,ActiveState", name],
        capture_output=True,
        text=True,
        check=False,
    )
    said = dict(line.split("=", 1) for line in ran.stdout.splitlines() if "=" in line)
    if said.get("ActiveState") == "failed":
        return False
    # a unit that nobody has tried to start says no, too, at time 0
    asked = said.get("ConditionTimestampMonotonic", "0") != "0"
    skipped = said.get("Result") == "exec-condition" or (asked and said.get("ConditionResult") == "no")
    return said.get("Type") == "oneshot" or skipped
