"""Run the checks of a layer, on a live box or in a tree."""

import importlib
import logging
from pathlib import Path

from salt.exceptions import SaltException, SaltRenderError

from vault_cube import box
from vault_cube import verdicts as outcome

LAYERS = ("base", "driver", "runtime", "frameworks", "validation")


def check(layer):
    """
    Run the checks of a layer: its saltcheck files, and those in ``vault_cube/box/``.

    Exit code 0 if no check failed. A check that cannot run here is reported as not applicable; it never counts as
    passed.

    layer
        base, driver, runtime, frameworks or validation

    Returns a table; with --out=json or --out=yaml a dictionary with layer, verdict, counts and cases (case, status,
    evidence, threshold).

    CLI Example:

    .. code-block:: bash

        salt-call --local layer.check frameworks
        salt-call --local --out=json layer.check driver
    """
    if layer not in LAYERS:
        __context__["retcode"] = 1
        return f"{layer}: no such layer; there are {', '.join(LAYERS)}"
    place = box.Place(pillar=__pillar__, live=Path("/run/systemd/system").is_dir())
    verdicts = [*_declared(layer), *_computed(layer, place)]
    summary = outcome.summary(layer, verdicts)
    __context__["retcode"] = int(summary["verdict"] == outcome.FAILED)
    return outcome.table(summary) if __opts__.get("output") in (None, "nested", "highstate", "txt") else summary


def _computed(layer, place):
    """Run the checks of a layer's module in vault_cube/box/; return their verdicts."""
    try:
        module = importlib.import_module(f"vault_cube.box.{layer}")
    except ModuleNotFoundError:
        return []
    try:
        return list(module.cases(place))
    except KeyError as err:
        return [outcome.verdict("pillar", False, f"the pillar has no key {err}: see vault_cube/settings/{layer}.py")]


def _declared(layer):
    """Run the layer's saltcheck files, salt/<layer>/saltcheck-tests/*.tst; return their verdicts.

    Runs the tests one by one. saltcheck.run_state_tests would also copy and run the tests of all states that the layer
    includes, and would start Salt again for each test.
    """
    logging.getLogger("salt.modules.saltcheck").setLevel(logging.CRITICAL)
    roots = __opts__["file_roots"]["base"]
    files = sorted(file for root in roots for file in Path(root, layer, "saltcheck-tests").glob("*.tst"))
    verdicts = []
    for file in files:
        try:
            cases = __salt__["slsutil.renderer"](path=str(file.resolve()), default_renderer="jinja|yaml")
        except SaltRenderError as err:
            verdicts.append(outcome.verdict("saltcheck", False, f"{file} does not render: {err}"))
            continue
        for case, test in cases.items():
            try:
                status = __salt__["saltcheck.run_test"](test=test)["status"]
            except SaltException as err:
                status = str(err)  # the subject of the test does not exist, such as a missing file
            if status == "Skip":
                verdicts.append(outcome.not_applicable(case, "needs a running system"))
            else:
                verdicts.append(outcome.verdict(case, status == "Pass", "" if status == "Pass" else status))
    return verdicts
