"""Run the checks of a layer, on a live box or in a tree."""

import importlib
import logging
from pathlib import Path

from salt.exceptions import CommandExecutionError, SaltException, SaltRenderError

from vault_cube import terminal, verdicts

LAYERS = ("base", "driver", "runtime", "frameworks", "validation")


def check(layer):
    """
    Run the checks of a layer: its saltcheck files, and those in ``vault_cube/box/``.

    Exit code 0 if all are ok, 1 with a warning, 2 with a fault. A check that cannot run here is reported as not
    applicable; it never counts as passed.

    layer
        base, driver, runtime, frameworks or validation

    Returns a table; with --out=json or --out=yaml a dictionary with subject (the layer), verdict, counts, started and
    checks (check, gpu, status, evidence, threshold, todo).

    CLI Example:

    .. code-block:: bash

        salt-call --local layer.check frameworks
        salt-call --local --out=json layer.check driver
    """
    if layer not in LAYERS:
        raise CommandExecutionError(f"{layer}: no such layer; there are {', '.join(LAYERS)}")
    # importing pydantic takes 0.1 s, and Salt imports this module whenever it looks for a function that no module has
    from vault_cube.settings import PillarError, of_minion

    try:
        settings = of_minion(__pillar__)
    except PillarError as err:
        raise CommandExecutionError(str(err)) from err
    from vault_cube.box import Place

    place = Place(settings, live=Path("/run/systemd/system").is_dir())
    checks = importlib.import_module(f"vault_cube.box.{layer}").CHECKS
    report = verdicts.Report(layer, [*_declared(layer), *verdicts.run(checks, place)])
    __context__["retcode"] = report.exit_code
    return report.table() if terminal.for_a_person(__opts__) else report.as_dict()


def _declared(layer):
    """Run the layer's saltcheck files, salt/<layer>/saltcheck-tests/*.tst; return their verdicts.

    Runs the tests one by one. saltcheck.run_state_tests would also copy and run the tests of all states that the layer
    includes, and would start Salt again for each test.
    """
    logging.getLogger("salt.modules.saltcheck").setLevel(logging.CRITICAL)
    roots = __opts__["file_roots"]["base"]
    files = sorted(file for root in roots for file in Path(root, layer, "saltcheck-tests").glob("*.tst"))
    results = []
    for file in files:
        try:
            tests = __salt__["slsutil.renderer"](path=str(file.resolve()), default_renderer="jinja|yaml")
        except SaltRenderError as err:
            results.append(verdicts.fault(f"{file} does not render: {err}", check="saltcheck"))
            continue
        results += [_verdict(name, test) for name, test in tests.items()]
    return results


def _verdict(name, test):
    """Run one saltcheck test."""
    try:
        status = __salt__["saltcheck.run_test"](test=test)["status"]
    except SaltException as err:
        status = str(err)  # the subject of the test does not exist, such as a missing file
    if status == "Skip":
        return verdicts.not_applicable("needs a running system", check=name)
    return verdicts.verdict(status == "Pass", "as declared" if status == "Pass" else status, check=name)
