"""
The box's gate: the functions and arguments that the fleet's master may use here.

Salt's access lists alone are no boundary: a user who may run one function can run any other in the same request, as
in ``{"fun": ["test.ping", "cmd.run"]}``, choose a returner that writes a file, or another executor. With this executor
a box runs one listed function at a time, with listed arguments. The box's own functions run in a new ``salt-call`` with
the box's own pillar and states, because the daemon has the code that it imported when it started.

Needs in the minion's configuration: ``module_executors: [fleet_gate]``, the other executors and all returners in
``disable_executors`` and ``disable_returners``, and ``fleet_gate`` with ``allow`` (functions) and ``salt_call`` (a
command). salt/validation/fleet.sls writes it, and copies this file to a place that no release replaces.
"""

import json
import logging
import re
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

YES_OR_NO = r"True|False"
NUMBER = r"\d{1,6}(\.\d{1,3})?"
NAME = r"[A-Za-z0-9_][A-Za-z0-9_:.-]{0,127}"
NAMES = r"[a-z_]{1,32}(,[a-z_]{1,32}){0,15}"
LAYER = r"base|driver|runtime|frameworks|validation"
HOST = r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}"
JOB = r"\d{20}"

# function -> {argument: pattern of its value}, in the function's order. "*": any number of positional arguments
ARGUMENTS = {
    "test.ping": {},
    "grains.items": {},
    "grains.item": {"*": NAME},
    "grains.get": {"key": NAME},
    "saltutil.running": {},
    "saltutil.is_running": {"fun": NAME},
    "saltutil.find_job": {"jid": JOB},
    "saltutil.kill_job": {"jid": JOB},
    "gpu.detect": {},
    "gpu.topology": {},
    "gpu.health": {"load": YES_OR_NO, "window_s": NUMBER},
    "gpu.validate": {"load": YES_OR_NO},
    "gpu.benchmark": {
        "suite": NAMES,
        "quick": YES_OR_NO,
        "force": YES_OR_NO,
        "boxes": r"\d{1,3}",
        "rendezvous": HOST,
    },
    "layer.check": {"layer": LAYER},
    "drift.report": {"layer": LAYER},
    "state.apply": {"mods": LAYER, "test": YES_OR_NO},
    "checkout.version": {},
    "checkout.update": {"commit": r"[0-9a-f]{40}", "sha256": r"[0-9a-f]{64}"},
    "checkout.apply": {},
    "checkout.accept": {},
    "checkout.rollback": {},
}
IN_THE_DAEMON = ("test.", "grains.", "saltutil.")
"""Beginnings of the functions that the daemon runs itself; all others run in a new salt-call."""
REFUSED = 13
"""Exit code of a refused request (EACCES)."""


def allow_missing_func(function_name):
    """Return whether a function may run although the daemon does not have it."""
    return function_name in ARGUMENTS and not function_name.startswith(IN_THE_DAEMON)


def execute(opts, data, func, args, kwargs):
    """Run a job of the master, or refuse it. Returns the function's result, or the reason; sets the exit code."""
    fun, user = data.get("fun"), data.get("user")
    problem = refusal(fun, data.get("arg"), opts.get("fleet_gate", {}).get("allow", []))
    if problem:
        log.warning("refused for %r: %r: %s", user, fun, problem)
        return _ended(f"refused: {problem}", REFUSED)
    log.info("%r runs %s %s", user, fun, data["arg"])
    return func(*args, **kwargs) if fun.startswith(IN_THE_DAEMON) else _child(opts["fleet_gate"], data)


def refusal(fun, arg, allow):
    """Return why a request is refused, None if it is allowed.

    fun: the request's function. arg: its arguments as Salt sends them: positional ones, and mappings with `__kwarg__`.
    allow: the functions that the box's owner allows.
    """
    if not isinstance(fun, str):
        return "one function at a time"
    if fun not in ARGUMENTS:
        return f"{fun[:80]}: a fleet's master may not run this function"
    if fun not in allow:
        return f"{fun}: not in this box's fleet:allow"
    try:
        problems = (_problem(name, value, ARGUMENTS[fun].get(name)) for name, value in named(fun, arg))
        problem = next(filter(None, problems), None)
    except ValueError as err:
        problem = str(err)
    return f"{fun}: {problem}" if problem else None


def _problem(name, value, pattern):
    if pattern is None:
        return f"argument {name[:40]} is not allowed"
    if isinstance(value, str | int | float) and re.fullmatch(pattern, str(value)):
        return None
    return f"the value of argument {name} is not allowed"


def named(fun, arg):
    """Return pairs of names and values of a request's arguments. Raises ValueError for what is no list of arguments."""
    if not isinstance(arg, list | tuple):
        raise ValueError("arguments have to be a list")  # noqa: TRY004 its callers catch one kind
    names = list(ARGUMENTS[fun])
    pairs = []
    for value in arg:
        if isinstance(value, dict) and value.get("__kwarg__") is True:
            pairs += [(str(name), part) for name, part in value.items() if name != "__kwarg__"]
        elif names == ["*"]:
            pairs.append(("*", value))
        elif len(pairs) < len(names):
            pairs.append((names[len(pairs)], value))
        else:
            raise ValueError(f"takes at most {len(names)} arguments")
    if names != ["*"] and len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("an argument is given twice")
    return pairs


def _child(gate, data):
    """Run a function of the box in a new salt-call, which ends with the job. Returns the function's result."""
    words = [f"{name}={value}" for name, value in named(data["fun"], data["arg"])]
    archive = signature = None
    if data["fun"] == "checkout.update":
        # salt-call has no master to fetch from
        commit = dict(named(data["fun"], data["arg"])).get("commit")
        archive = __salt__["cp.cache_file"](f"salt://releases/{commit}.tar")
        signature = __salt__["cp.cache_file"](f"salt://releases/{commit}.tar.sig")
        if not archive:
            return _ended(f"the master has no release {commit}", 1)
        words.append(f"file={archive}")
    options = ["--local", "--retcode-passthrough", "--out=json", "--log-level=quiet"]
    command = ["setpriv", "--pdeathsig", "KILL", *gate["salt_call"], *options, data["fun"], *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    for file in filter(None, (archive, signature)):
        Path(file).unlink(missing_ok=True)
    try:
        result = json.loads(ran.stdout)["local"]
    except (ValueError, KeyError, TypeError):
        lines = (ran.stderr.strip() or ran.stdout.strip()).splitlines()
        return _ended(
            lines[-1][:800] if lines else f"salt-call ended with status {ran.returncode}", ran.returncode or 1
        )
    return _ended(result, ran.returncode)


def _ended(result, retcode):
    __salt__.pack["__context__"]["retcode"] = retcode
    # Salt would pass None on to the next executor
    return "" if result is None else result
