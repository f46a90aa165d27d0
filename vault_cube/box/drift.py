"""`drift.report` of a box: the verdicts of its states and the comparison with its image, in one result."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vault_cube import process
from vault_cube.drift import classes
from vault_cube.drift.classes import DRIFT, REPAIRED, UNKNOWN, Finding, StateResult
from vault_cube.drift.comparison import FOLDER
from vault_cube.drift.manifest import HOME
from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings

PROGRAM = Path("/") / HOME / "drift"
LAST = Path("/") / FOLDER / "last.json"
"""The last result, for the grain `drift`."""
LIMIT_S = 3600
"""Time limit of the comparison, in seconds: a box with slow disks may need minutes to read all files."""


def states(ran: Mapping[str, Mapping[str, Any]]) -> list[StateResult]:
    """Convert Salt's result of `state.apply test=True`."""
    return [
        {
            "state": f"{state.get('__sls__', '')}: {state.get('__id__', '')}",
            "function": ".".join(key.split("_|-")[index] for index in (0, -1)),
            "name": str(state.get("name", "")),
            "differs": state["result"] is None or bool(state["changes"]),
            "failed": state["result"] is False,
            "would": would(state),
        }
        for key, state in ran.items()
    ]


def would(state: Mapping[str, Any]) -> str:
    """Describe in one line what applying a state would do."""
    changes = state["changes"]
    if isinstance(changes, Mapping) and changes:
        keys = ", ".join(str(key) for key in list(changes)[:5])
        return f"{' '.join(str(state['comment']).split())[:160]} ({keys})"
    return " ".join(str(state["comment"]).split())[:200]


def compare(
    settings: Settings | None, results: Sequence[StateResult], *, full: bool, program: Path = PROGRAM
) -> dict[str, Any]:
    """Compare the box with its image. Returns the result of vault_cube.drift.comparison.compare.

    Without the program, which only images have, the states alone are compared; `notes` says so.
    Raises VaultCubeError if the program cannot compare.
    """
    if settings is None or not program.exists():
        own = [
            Finding(UNKNOWN if result["failed"] else REPAIRED, result["name"], result["would"], result["state"])
            for result in results
            if result["differs"] or result["failed"]
        ]
        note = f"{program} is missing, so only the states were compared: this box was not made from an image with one"
        return {**classes.summary(own), "mode": "states only", "notes": [note]}
    drift = settings.validation.drift
    people = settings.base.users.values()
    request = {
        "states": list(results),
        "expected": drift.expected,
        "listen": [*drift.listen, *(f"tcp {port}" for port in settings.base.firewall.allow_tcp)],
        "keys": [key for person in people for key in person.ssh_keys],
    }
    command: list[str | Path] = [program, "compare", "--json", "--request", *(["--full"] if full else [])]
    ran = process.run(command, input=json.dumps(request).encode(), timeout_s=LIMIT_S, ok=None)
    try:
        result: dict[str, Any] = json.loads(ran.stdout)
    except ValueError as err:
        raise VaultCubeError(f"{program}: {process.last_line(ran.stderr) or f'exit status {ran.returncode}'}") from err
    return result


def separated(result: Mapping[str, Any]) -> dict[str, Any]:
    """Divide the findings into `findings`, which are drift, `unjudged` and `expected`."""
    lists: dict[str, list[Any]] = {"findings": [], "unjudged": [], "expected": []}
    for finding in result["findings"]:
        kind = finding["class"]
        lists["findings" if kind in DRIFT else "unjudged" if kind == UNKNOWN else "expected"].append(finding)
    return {**result, **lists}


def remember(result: Mapping[str, Any], last: Path = LAST) -> None:
    """Write the result for the grain, atomically. Raises OSError."""
    record = {"at": int(time.time()), **{key: result[key] for key in ("drifted", "counts", "mode")}}
    last.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = last.with_name(f".{last.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(record))
        temporary.replace(last)
    finally:
        temporary.unlink(missing_ok=True)


def explain(path: str, program: Path = PROGRAM) -> dict[str, str]:
    """Explain a path, as vault_cube.drift.explain does. Raises VaultCubeError without a usable manifest."""
    if not program.exists():
        raise VaultCubeError(f"{program} is missing: this box was not made from an image that has a manifest")
    ran = process.run([program, "explain", "--json", path], timeout_s=LIMIT_S, ok=None)
    if ran.returncode:
        raise VaultCubeError(process.last_line(ran.stderr))
    result: dict[str, str] = json.loads(ran.stdout)
    return result
