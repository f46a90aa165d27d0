"""The commands behind the functions of `_modules/gpu.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import detail, facts
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.show import tables
from vault_cube.settings import Settings
from vault_cube.verdicts import NOT_APPLICABLE, Report

RETRY_S = 30.0
"""`gpu.monitor` runs for hours, so it asks again after this time whether a GPU that hung is back."""


@dataclass(frozen=True)
class Answer:
    """The result of a command."""

    document: Mapping[str, object]
    """For a program, with --out=json or --out=yaml."""
    exit_code: int
    text: Callable[[], str]
    """Returns a table for a person."""


def detect(settings: Settings) -> Answer:
    """List all fields of all GPUs; exit code 1 if the target has GPUs and one or all do not answer."""
    with Session(settings.gpu.answer_s) as session:
        inventory = facts.facts(session, Host())
        if inventory["devices"]:
            try:
                inventory["devices"] = detail.details(session)
            except NvmlProblem as err:
                inventory |= {"problem": str(err), "problem_kind": err.problem.kind}
            # a GPU may answer the first questions and not the others
            lost = [card["problem"] for card in inventory["devices"] if "problem" in card]
            if lost and "problem" not in inventory:
                inventory |= {"problem": "; ".join(lost), "problem_kind": "gpu"}
    exit_code = _exit_code(settings, "problem" in inventory)
    return Answer(inventory, exit_code, lambda: tables.detect(inventory))


def topology(settings: Settings) -> Answer:
    """Show links, NUMA nodes, P2P and the transport of NCCL; exit code as for `detect`."""
    from vault_cube.gpu.read.topology import topology as read_topology

    with Session(settings.gpu.answer_s) as session:
        matrix = read_topology(session, Host())
    return Answer(matrix, _exit_code(settings, "problem" in matrix), lambda: tables.topology(matrix))


def health(settings: Settings, *, load: bool, window_s: float | None, cache: Path) -> Answer:
    """Run all checks; exit code 0: ok, 1: a warning, 2: a fault. The grain `gpu_health` shows the last result."""
    from vault_cube.gpu.health import health as check_health

    with Session(settings.gpu.answer_s) as session:
        report = check_health(session, settings, window_s=window_s, load=load)
    _remember(report, cache / "gpu_health.json")
    return _report(report)


def validate(settings: Settings, *, load: bool) -> Answer:
    """Compare the GPUs with the pillar; exit code 0: as expected, 1: a warning, 2: a fault."""
    from vault_cube.gpu.health.validate import validate as compare

    with Session(settings.gpu.answer_s) as session:
        return _report(compare(session, settings, load=load))


def reset(settings: Settings, index: int, *, test: bool) -> Answer:
    """Reset one GPU; exit code 1 if that failed. Raises VaultCubeError if the GPU is in use."""
    from vault_cube.gpu.reset import reset as reset_gpu

    with Session(settings.gpu.answer_s) as session:
        result = reset_gpu(session, settings.gpu.reset, index, test=test, machine=Host())
    return Answer(result, int(not test and not result["reset"]), lambda: tables.fields(result))


def monitor(settings: Settings, *, every_s: float | None) -> Answer:
    """Show the GPUs once, or in the terminal until q is pressed.

    every_s: seconds between two readings; None: once. Exit code 1 if the target has GPUs, and the driver or one of the
    GPUs does not answer.
    """
    # rich takes a tenth of a second to import
    from vault_cube.gpu.show.monitor import live, once, text

    with Session(settings.gpu.answer_s, retry_s=RETRY_S) as session:
        alerts = settings.validation.monitoring.alerts
        view = once(session) if every_s is None else live(session, alerts, every_s)
    silent = "problem" in view or any("problem" in card for card in view["gpus"])
    return Answer(view, _exit_code(settings, silent), lambda: text(view))


def _exit_code(settings: Settings, problem: bool) -> int:
    """Return 1 for a problem on a target with GPUs; elsewhere a missing driver is no error."""
    return int(problem and settings.target.accelerator == "nvidia")


def _report(report: Report) -> Answer:
    def text() -> str:
        # a box without GPUs needs one line, not the same reason once per check
        return f"not applicable here: {report.subject}" if report.status == NOT_APPLICABLE else report.table()

    return Answer(report.as_dict(), report.exit_code, text)


def _remember(report: Report, file: Path) -> None:
    """Write the bad verdicts for the grain. If the cache cannot be written, only the grain is missing."""
    document = report.as_dict()
    del document["checks"]
    document["bad"] = [each.as_dict() for each in report.verdicts if each.bad]
    new = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(document))
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)
