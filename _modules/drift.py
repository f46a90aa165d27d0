"""Report the differences between this box, its states and its image."""

import json
import os
from pathlib import Path

from salt.exceptions import CommandExecutionError

from vault_cube import terminal
from vault_cube.box import drift
from vault_cube.drift.report import text
from vault_cube.errors import VaultCubeError, shown
from vault_cube.metrics import drift as metrics
from vault_cube.settings import PillarError, of_minion


def report(layer=None, full=False):
    """
    Compare the box with its states and with the image that it was made from, without changing anything.

    Files, packages, accounts, keys, units and the running system are compared. Each difference has one class: repaired
    by state.apply; not managed, differs from the image; expected (logs, data, verified updates, paths in
    validation:drift:expected); cannot be judged. Only the first two count as drift.

    Exit code 0 without drift, 2 with drift, 1 if the box cannot be compared. The box's configuration of Salt sets
    retcode_passthrough, so ``salt-call`` needs no option for it.

    layer
        compare only the states of this layer and of the layers below it, and not the image; default: everything

    full
        read all files; by default, a file that was not written since the image was made, or since it was last read, is
        not read again

    Returns a table; with --out=json or --out=yaml a dictionary with drifted, checked (number of states), counts per
    class, findings (class, what, change, why, todo), unjudged, expected, mode, image, manifest_sha256, seconds, notes,
    and kept: what cloud-init's seed has set, and entries of the owner and of programs in shared files.

    CLI Example:

    .. code-block:: bash

        salt-call --local drift.report
        salt-call --local drift.report full=True
        salt-call --local --out=json drift.report base
    """
    ran = __salt__["state.apply"](layer, test=True) if layer else __salt__["state.apply"](test=True)
    rendered = isinstance(ran, dict)
    states = drift.states(ran) if rendered else []
    missing = Path("/nonexistent")
    try:
        settings = of_minion(__pillar__) if rendered else None
        program = missing if layer or settings is None else drift.PROGRAM
        result = drift.compare(settings, states, full=full, program=program)
    except (VaultCubeError, PillarError) as err:
        __context__["retcode"] = 1
        return "cannot check for drift: " + (shown(err) if isinstance(err, VaultCubeError) else str(err))
    if not rendered:
        # the errors of a pillar, or those of the states themselves
        reasons = __pillar__.get("_errors") or ran
        result["notes"] = ["the states cannot be compared: " + "; ".join(str(line).strip() for line in reasons)]
    elif layer:
        result["notes"] = []
    elif settings and program.exists() and os.geteuid() == 0:
        result["notes"] += _remember(result, Path(settings.validation.monitoring.textfiles))
    failed = not rendered or any(state["failed"] for state in states)
    __context__["retcode"] = 1 if failed else 2 if result["drifted"] else 0
    kept = _kept(ran) if rendered else []
    if terminal.for_a_person(__opts__):
        lines = [f"  kept: {part['what']}: {entry}" for part in kept for entry in part["entries"]]
        return "\n".join([f"{len(states)} states: {text(result)}", *lines])
    return {"checked": len(states), **drift.separated(result), "kept": kept}


def explain(path):
    """
    Show which package, layer and state own a path, whether it may differ from the image, and what differs.

    path
        absolute path on this box

    Returns a dictionary with path, layer, package, state, expected, difference and guarded, as far as each exists.

    CLI Example:

    .. code-block:: bash

        salt-call --local drift.explain /etc/ssh/sshd_config
    """
    try:
        return drift.explain(path)
    except VaultCubeError as err:
        raise CommandExecutionError(shown(err)) from err


def _remember(result, textfiles):
    """Store the result for the grain and the node exporter. Returns what could not be written: a disk may be full."""
    try:
        drift.remember(result)
        metrics.write(result, textfiles)
    except OSError as err:
        return [f"{err.filename}: {err.strerror}: the result was not stored"]
    return []


def _kept(ran):
    """List what the states keep: mappings with `what`, a file or the seed, and `entries`."""
    kept = [
        {"what": state.get("name", ""), "entries": [str(entry) for entry in state["others"]]}
        for state in ran.values()
        if state.get("others")
    ]
    seed = __opts__.get("vault_cube", {}).get("seed")
    try:
        record = json.loads(Path(seed).read_text()) if seed else {}
    except (OSError, ValueError):
        record = {}
    if isinstance(record, dict) and record:
        kept.append({"what": "cloud-init's seed", "entries": [f"{key} {value}" for key, value in record.items()]})
    return kept
