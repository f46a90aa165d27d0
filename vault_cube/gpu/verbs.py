"""What people type, behind the functions of `_modules/gpu.py`. Each returns what was found, and the exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vault_cube import verdicts as outcome
from vault_cube.gpu import health as judging
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import detail, facts
from vault_cube.gpu.read import topology as placing
from vault_cube.gpu.read.host import Host

Answer = tuple[dict[str, Any], int]
RETRY_S = 30.0
CODES = {judging.NOT_APPLICABLE: 0, judging.OK: 0, judging.WARNING: 1, judging.FAULT: 2}


def detect(pillar: Mapping[str, Any]) -> Answer:
    """All fields of all GPUs; exit code 1 where the target wants a GPU and one or all do not answer."""
    with Session(pillar["gpu"]["answer_s"]) as session:
        found = facts.facts(session, Host())
        if found["devices"]:
            try:
                found["devices"] = detail.details(session)
            except NvmlProblem as err:
                found |= {"problem": str(err), "problem_kind": err.problem.kind}
            # one that answered the first questions and not the others
            lost = [card["problem"] for card in found["devices"] if "problem" in card]
            if lost and "problem" not in found:
                found |= {"problem": "; ".join(lost), "problem_kind": "gpu"}
    return found, int("problem" in found and pillar["target"]["accelerator"] == "nvidia")


def topology(pillar: Mapping[str, Any]) -> Answer:
    """Links, NUMA nodes, P2P and NCCL's choice; exit code as detect's."""
    with Session(pillar["gpu"]["answer_s"]) as session:
        found = placing.topology(session, Host())
    return found, int("problem" in found and pillar["target"]["accelerator"] == "nvidia")


def health(pillar: Mapping[str, Any], *, load: bool, window_s: float | None, cache: Path) -> Answer:
    """Every check; exit code 0 well, 1 with a warning, 2 with a fault. The grain `gpu_health` shows the last result."""
    with Session(pillar["gpu"]["answer_s"]) as session:
        found = judging.health(session, pillar, window_s=window_s, load=load)
    _remember(found, cache / "gpu_health.json")
    return found, CODES[found["verdict"]]


def validate(pillar: Mapping[str, Any], *, load: bool) -> Answer:
    """The pillar's expectations; exit code 1 when one is not met."""
    from vault_cube.gpu.health.validate import verdicts

    with Session(pillar["gpu"]["answer_s"]) as session:
        found = outcome.summary("gpu.validate", verdicts(session, pillar, load=load))
        if session.simulated:
            found["simulated"] = True
    return found, int(found["verdict"] == outcome.FAILED)


def reset(pillar: Mapping[str, Any], index: int, *, test: bool) -> Answer:
    """Reset one GPU; exit code 1 if that did not work. Raises VaultCubeError if it must not be tried."""
    from vault_cube.gpu.reset import reset as resetting

    with Session(pillar["gpu"]["answer_s"]) as session:
        found = resetting(session, pillar, index, test=test, machine=Host())
    return found, int(not test and not found["reset"])


def monitor(pillar: Mapping[str, Any], *, every_s: float | None) -> Answer:
    """One view, or many in the terminal until q, every_s seconds apart.

    Exit code 1 if the target wants a GPU, and the driver or one of the GPUs does not answer.
    """
    # rich takes a tenth of a second
    from vault_cube.gpu.show.monitor import live, once

    # the view lives for hours: a GPU that hung may be back
    with Session(pillar["gpu"]["answer_s"], retry_s=RETRY_S) as session:
        view = (
            once(session) if every_s is None else live(session, pillar["validation"]["monitoring"]["alerts"], every_s)
        )
    silent = "problem" in view or any("problem" in card for card in view["gpus"])
    return view, int(silent and pillar["target"]["accelerator"] == "nvidia")


def _remember(found: Mapping[str, Any], file: Path) -> None:
    """Leave what is not well for the grain; a cache that cannot be written costs the grain, not the answer."""
    bad = [one for one in found["checks"] if one["verdict"] in (judging.WARNING, judging.FAULT)]
    kept = {name: value for name, value in found.items() if name != "checks"} | {"bad": bad}
    new = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(kept))
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)
