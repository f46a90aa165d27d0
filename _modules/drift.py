"""Report the differences between this box and its states."""

import json
from pathlib import Path


def report(layer=None):
    """
    Compare the box with its states without changing anything.

    Exit code 0 if nothing differs, 2 if something differs, 1 if the box cannot be checked for drift.

    layer
        check only this layer and the layers below it; default: all layers

    Returns a table; with --out=json or --out=yaml a dictionary with drifted, checked, findings (state, layer, what,
    would, failed) and kept: what cloud-init's seed has set, and entries of the owner and of programs in shared files.
    What is kept is no drift: state.apply does not change it.

    CLI Example:

    .. code-block:: bash

        salt-call --local drift.report
        salt-call --local --out=json drift.report base
    """
    ran = __salt__["state.apply"](layer, test=True) if layer else __salt__["state.apply"](test=True)
    if not isinstance(ran, dict):
        __context__["retcode"] = 1
        return "cannot check for drift: " + "; ".join(str(line).strip() for line in ran)
    findings = [_finding(state) for state in ran.values() if state["result"] is not True or state["changes"]]
    broken = [finding for finding in findings if finding["failed"]]
    __context__["retcode"] = 1 if broken else 2 if findings else 0
    result = {"drifted": bool(findings), "checked": len(ran), "findings": findings, "kept": _kept(ran)}
    return result if __opts__.get("output") not in (None, "nested", "highstate", "txt") else _table(result)


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


def _finding(state):
    return {
        "layer": state.get("__sls__", "").partition(".")[0],
        "state": state.get("__id__", ""),
        "what": state.get("name", ""),
        "would": _would(state),
        "failed": state["result"] is False,
    }


def _would(state):
    """Describe in one line what applying a state would do."""
    changes = state["changes"]
    if isinstance(changes, dict) and changes:
        keys = ", ".join(str(key) for key in list(changes)[:5])
        return f"{' '.join(str(state['comment']).split())[:160]} ({keys})"
    return " ".join(str(state["comment"]).split())[:200]


def _table(result):
    kept = [f"  kept: {part['what']}: {entry}" for part in result["kept"] for entry in part["entries"]]
    if not result["findings"]:
        return "\n".join([f"no drift: {result['checked']} states hold", *kept])
    lines = [f"{len(result['findings'])} of {result['checked']} states differ; `state.apply` repairs them"]
    lines += [
        f"  {'FAILED ' if finding['failed'] else ''}{finding['layer']}: {finding['state']}: {finding['would']}"
        for finding in result["findings"]
    ]
    return "\n".join([*lines, *kept])
