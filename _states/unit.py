"""Systemd units that start at boot, do not, or are masked, both in a chroot and on a running machine.

Salt's own service states return True in a chroot and enable nothing; `systemctl --root=/` edits the links itself.
"""

import subprocess
from pathlib import Path

# the states of `systemctl is-enabled` that `systemctl enable` cannot turn into "enabled"; see systemctl(1)
NOT_ENABLED = {
    "static": "it has no [Install] section, so nothing starts it at boot: add one by a drop-in",
    "alias": "it is another name of a unit: use that unit's own name",
    "indirect": "only other units of its [Install] section are enabled: use the name of the one that has to start",
    "generated": "a generator makes it and decides when it starts: change what the generator reads",
    "transient": "it is gone after a reboot: write a unit file",
}


def __virtual__():
    return True


def enabled(name):
    """
    Make a unit start at boot; on a running machine, start it now, too.

    A unit that `systemctl enable` cannot enable, such as a static one, fails: it would not start at boot.

    name
        the unit with its suffix, such as ``docker.service``

    .. code-block:: yaml

        Docker starts at boot:
          unit.enabled:
            - name: docker.service
    """
    # not enabled-runtime or linked: these do not start after the next boot
    return _turn(name, wanted=("enabled",), verb="enable", live="start")


def disabled(name):
    """
    Make sure that a unit does not start at boot; on a running machine, stop it now, too.

    .. code-block:: yaml

        no printing:
          unit.disabled:
            - name: cups.service
    """
    return _turn(name, wanted=("disabled", "masked", "static", "not-found"), verb="disable", live="stop")


def masked(name):
    """
    Make sure that nothing can start a unit; on a running machine, stop it now, too.

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
    # a static unit is not stopped: the unit that needs it has started it
    wrong_now = (live == "start") != is_active and not (before == "static" and live == "stop")
    if running and wrong_now and not _at_rest(name):
        changes[f"{name} now"] = {
            "old": "running" if is_active else "stopped",
            "new": "running" if live == "start" else "stopped",
        }
    ret = {"name": name, "changes": changes, "result": True, "comment": f"{name} is {before}"}
    if not changes:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{name} would be {wanted[0]}"}
    if verb == "enable" and before in NOT_ENABLED:
        return {**ret, "changes": {}, "result": False, "comment": f"{name} is {before}: {NOT_ENABLED[before]}"}
    where = [] if running else ["--root=/"]
    commands = []
    if name in changes:
        if before.startswith("masked") and verb != "mask":
            commands.append(["systemctl", *where, "unmask", name])
        commands.append(["systemctl", *where, verb, name])
    if f"{name} now" in changes:
        commands.append(["systemctl", live, name])
    for command in commands:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            why = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
            return {**ret, "changes": {}, "result": False, "comment": f"{' '.join(command)}: {why}"}
    after = _state(name)
    if after not in wanted:
        # a masked unit shows only now what it is
        why = f": {NOT_ENABLED[after]}" if verb == "enable" and after in NOT_ENABLED else ""
        return {**ret, "changes": {}, "result": False, "comment": f"{name} is {after} after {verb}{why}"}
    return {**ret, "comment": f"{name} is {after}"}


def _running():
    """Does systemd run here? In a chroot it does not."""
    return Path("/run/systemd/system").is_dir()


def _state(name):
    """What `systemctl is-enabled` prints, or not-found."""
    return _ask("is-enabled", name) or "not-found"


def _ask(verb, name):
    root = [] if _running() else ["--root=/"]
    ran = subprocess.run(["systemctl", *root, verb, name], capture_output=True, text=True, check=False)
    return ran.stdout.strip()


def _at_rest(name):
    """Did the unit do its work and end, or was it skipped by a condition? Then it need not run."""
    ran = subprocess.run(
        ["systemctl", "show", "-p", "Type,Result,ConditionResult,ConditionTimestampMonotonic,ActiveState", name],
        capture_output=True,
        text=True,
        check=False,
    )
    shown = dict(line.split("=", 1) for line in ran.stdout.splitlines() if "=" in line)
    if shown.get("ActiveState") == "failed":
        return False
    # ConditionResult is "no" also for a unit that was never started; the time stamp is 0 then
    tried = shown.get("ConditionTimestampMonotonic", "0") != "0"
    skipped = shown.get("Result") == "exec-condition" or (tried and shown.get("ConditionResult") == "no")
    return shown.get("Type") == "oneshot" or skipped
