"""Enable, disable and mask systemd units, both in a chroot and on a running machine.

Salt's own service states return True in a chroot and enable nothing; `systemctl --root=/` edits the links itself.
"""

from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError

# states of `systemctl is-enabled` that `systemctl enable` cannot change to "enabled"; see systemctl(1)
NOT_ENABLED = {
    "static": "it has no [Install] section, so nothing starts it at boot: add one in a drop-in",
    "alias": "it is an alias of another unit: use that unit's own name",
    "indirect": "only other units of its [Install] section are enabled: use the name of the one that has to start",
    "generated": "a generator creates it and decides when it starts: change the generator's configuration",
    "transient": "it does not exist after a reboot: write a unit file",
}


def __virtual__():
    return True


def enabled(name):
    """
    Ensure that a unit starts at boot. On a running machine, start it now, too.

    Fails for a unit that `systemctl enable` cannot enable, such as a static one, because it would not start at boot.

    name
        unit with its suffix, such as ``docker.service``

    .. code-block:: yaml

        Docker starts at boot:
          unit.enabled:
            - name: docker.service
    """
    # enabled-runtime and linked do not count: such units do not start at the next boot
    return _turn(name, wanted=("enabled",), verb="enable", live="start")


def disabled(name):
    """
    Ensure that a unit does not start at boot. On a running machine, stop it now, too.

    name
        unit with its suffix, such as ``docker.service``

    .. code-block:: yaml

        no printing:
          unit.disabled:
            - name: cups.service
    """
    return _turn(name, wanted=("disabled", "masked", "static", "not-found"), verb="disable", live="stop")


def masked(name):
    """
    Ensure that nothing can start a unit. On a running machine, stop it now, too.

    name
        unit with its suffix, such as ``docker.service``

    .. code-block:: yaml

        nothing sleeps:
          unit.masked:
            - name: sleep.target
    """
    return _turn(name, wanted=("masked",), verb="mask", live="stop")


def _turn(name, wanted, verb, live):
    try:
        return _turned(name, wanted, verb, live)
    except VaultCubeError as err:
        # such as a machine without systemd
        return {"name": name, "changes": {}, "result": False, "comment": str(err)}


def _turned(name, wanted, verb, live):
    running = _running()
    before = _answer("is-enabled", name) or "not-found"
    changes = {}
    if before not in wanted:
        changes[name] = {"old": before, "new": wanted[0]}
    is_active = running and _answer("is-active", name) in ("active", "activating", "reloading")
    # do not stop a static unit: it runs because another unit needs it
    wrong_now = (live == "start") != is_active and not (before == "static" and live == "stop")
    if running and wrong_now and not _need_not_run(name):
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
        ran = process.run(command, ok=None)
        if ran.returncode:
            reason = process.last_line(ran.stderr) or "no error message"
            return {**ret, "changes": {}, "result": False, "comment": f"{' '.join(command)}: {reason}"}
    after = _systemctl("is-enabled", name) or "not-found"
    if after not in wanted:
        # a masked unit shows its own state only after it is unmasked
        reason = f": {NOT_ENABLED[after]}" if verb == "enable" and after in NOT_ENABLED else ""
        return {**ret, "changes": {}, "result": False, "comment": f"{name} is {after} after {verb}{reason}"}
    return {**ret, "comment": f"{name} is {after}"}


def _running():
    """Return whether systemd is running, which is not the case in a chroot."""
    return Path("/run/systemd/system").is_dir()


def _answer(verb, name):
    """Return the output of a query of systemctl for one unit.

    As long as no state has changed anything, ask once for all units of the run: 20 queries take 0.3 s.
    """
    if any(state["changes"] for state in __running__.values()):
        return _systemctl(verb, name)
    answers = __context__.setdefault("unit.answers", {})
    if verb not in answers:
        # systemctl stops at a unit that does not exist, as one may that is to be disabled
        names = sorted({low["name"] for low in __lowstate__ if low["state"] == "unit" and low["fun"] != "disabled"})
        lines = _systemctl(verb, *names).splitlines() if names else []
        answers[verb] = dict(zip(names, lines, strict=True)) if len(lines) == len(names) else {}
    return answers[verb][name] if name in answers[verb] else _systemctl(verb, name)


def _systemctl(verb, *names):
    """Return the output of a query of systemctl."""
    root = [] if _running() else ["--root=/"]
    return process.run(["systemctl", *root, verb, *names], ok=None).stdout.strip()


def _need_not_run(name):
    """Return whether the unit need not run: it is a oneshot unit that has finished, or its condition was not met."""
    wanted = "Type,Result,ConditionResult,ConditionTimestampMonotonic,ActiveState"
    shown = process.run(["systemctl", "show", "-p", wanted, name], ok=None).stdout
    properties = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if properties.get("ActiveState") == "failed":
        return False
    # ConditionResult is "no" for a unit that was never started, too; its timestamp is 0
    tried = properties.get("ConditionTimestampMonotonic", "0") != "0"
    skipped = properties.get("Result") == "exec-condition" or (tried and properties.get("ConditionResult") == "no")
    return properties.get("Type") == "oneshot" or skipped
