"""What on this box is no longer what the states say?"""


def report(layer=None):
    """
    Compare the box with its states, changing nothing.

    Exit code 0 when nothing differs, 2 when something does, 1 when that could not be found out.

    layer
        only this layer and those below it; all when not given

    Returns a table; with --out=json or --out=yaml a dictionary: drifted, checked, findings (state, layer, what, would).

    CLI Example:

    .. code-block:: bash

        salt-call --local drift.report
        salt-call --local --out=json drift.report base
    """
    ran = __salt__["state.apply"](layer, test=True) if layer else __salt__["state.apply"](test=True)
    if not isinstance(ran, dict):
        __context__["retcode"] = 1
        return "drift cannot be told: " + "; ".join(str(line).strip() for line in ran)
    findings = [_finding(state) for state in ran.values() if state["result"] is not True or state["changes"]]
    broken = [finding for finding in findings if finding["failed"]]
    __context__["retcode"] = 1 if broken else 2 if findings else 0
    found = {"drifted": bool(findings), "checked": len(ran), "findings": findings}
    return found if __opts__.get("output") not in (None, "nested", "highstate", "txt") else _table(found)


def _finding(state):
    return {
        "layer": state.get("__sls__", "").partition(".")[0],
        "state": state.get("__id__", ""),
        "what": state.get("name", ""),
        "would": _said(state),
        "failed": state["result"] is False,
    }


def _said(state):
    """What would be done, in one line."""
    changes = state["changes"]
    if isinstance(changes, dict) and changes:
        keys = ", ".join(str(key) for key in list(changes)[:5])
        return f"{' '.join(str(state['comment']).split())[:160]} ({keys})"
    return " ".join(str(state["comment"]).split())[:200]


def _table(found):
    if not found["findings"]:
        return f"no drift: {found['checked']} states hold"
    lines = [f"{len(found['findings'])} of {found['checked']} states differ; `state.apply` repairs them"]
    lines += [
        f"  {'FAILED ' if one['failed'] else ''}{one['layer']}: {one['state']}: {one['would']}"
        for one in found["findings"]
    ]
    return "\n".join(lines)
