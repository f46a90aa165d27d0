"""Does a layer keep its promises? Runs a layer's validation cases on a live box or in a tree."""

import importlib
import logging
from pathlib import Path

from vault_cube import checks

LAYERS = ("base", "driver", "runtime", "frameworks", "validation")


def check(layer):
    """
    Run the validation cases of a layer: Salt's own saltcheck files, and the layer's computed cases.

    Exit code 0 when none failed; a case that cannot be tried here is told as such and never counts as passed.

    layer
        base, driver, runtime, frameworks or validation

    Returns a table; with --out=json or --out=yaml the verdicts: layer, verdict, counts, cases (case, status,
    evidence, threshold).

    CLI Example:

    .. code-block:: bash

        salt-call --local layer.check frameworks
        salt-call --local --out=json layer.check driver
    """
    if layer not in LAYERS:
        __context__["retcode"] = 1
        return f"{layer}: no such layer: take one of {', '.join(LAYERS)}"
    place = checks.Place(pillar=__pillar__, live=Path("/run/systemd/system").is_dir())
    verdicts = [*_declared(layer), *_computed(layer, place)]
    found = checks.summary(layer, verdicts)
    __context__["retcode"] = int(found["verdict"] == checks.FAILED)
    return checks.table(found) if __opts__.get("output") in (None, "nested", "highstate", "txt") else found


def _computed(layer, place):
    try:
        module = importlib.import_module(f"vault_cube.checks.{layer}")
    except ModuleNotFoundError:
        return []
    try:
        return list(module.cases(place))
    except KeyError as err:
        return [checks.verdict("pillar", False, f"the pillar has no key {err}: see vault_cube/settings/{layer}.py")]


def _declared(layer):
    """The layer's saltcheck files, salt/<layer>/saltcheck-tests/*.tst, as verdicts."""
    logging.getLogger("salt.modules.saltcheck").setLevel(logging.CRITICAL)
    files = [
        file for root in __opts__["file_roots"]["base"] for file in Path(root, layer, "saltcheck-tests").glob("*.tst")
    ]
    if not files:
        return []
    verdicts = []
    for result in __salt__["saltcheck.run_state_tests"](layer, check_all=True):
        for case, outcome in result.get(layer, {}).items():
            status = outcome["status"]
            if status.startswith("Skip"):
                verdicts.append(checks.not_applicable(case, "needs a running system"))
            else:
                verdicts.append(checks.verdict(case, status == "Pass", "" if status == "Pass" else status))
    if not verdicts:
        return [checks.verdict("saltcheck", False, f"{files[0]} was not run: does state.show_sls {layer} render?")]
    return verdicts
