"""One round of a suite: run its workload while the sensors are sampled, and return the outcome."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vault_cube.bench.fields import Document
from vault_cube.bench.judge import result
from vault_cube.bench.judge.result import Check, State, Suite
from vault_cube.bench.run import process, suites
from vault_cube.bench.run.hardware import Hardware
from vault_cube.bench.run.rendezvous import Rendezvous
from vault_cube.bench.run.sensors import Sampler
from vault_cube.settings import Settings
from vault_cube.settings.benchmark import Effort
from vault_cube.settings.benchmark import Suite as SuiteName

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """What all rounds of a benchmark have in common. say: called with each line of progress."""

    settings: Settings
    hardware: Hardware
    say: Say
    quick: bool
    workloads: Path = suites.WORKLOADS
    together: Rendezvous | None = None
    """The boxes that train together; None: this box alone."""

    @property
    def effort(self) -> Effort:
        """Return the pillar's lengths of this run: for several boxes, all rounds in one, because they meet once."""
        effort = self.settings.benchmark.quick if self.quick else self.settings.benchmark.full
        if self.together is None:
            return effort
        limits = {name: effort.rounds * limit + self.together.wait_s for name, limit in effort.limits_s.items()}
        return effort.model_copy(update={"rounds": 1, "repeats": effort.rounds * effort.repeats, "limits_s": limits})


def measure(name: SuiteName, run: Run, sampler: Sampler) -> Suite:
    """Run one round of a suite, and return its outcome. A failure of the workload is an outcome, not an exception.

    sampler: samples the sensors during the round, and receives the workload's phases.
    """
    frameworks = run.settings.frameworks
    environment = run.settings.benchmark.environments[name]
    if environment not in frameworks.environments:
        reason = f"target {run.settings.target.name} has no environment {environment} (pillar frameworks:environments)"
        return without("not measured", "missing", reason)
    python = Path(frameworks.folder) / environment / "bin/python"
    if not python.exists():
        return without("failed", "missing", f"{python} is missing; run `salt-call --local state.apply frameworks`")
    plan = suites.plan(
        name, python, run.settings, run.effort, gpus=run.hardware.gpus, workloads=run.workloads, together=run.together
    )
    scratch = Path(tempfile.mkdtemp(prefix="vault-cube-bench-"))
    messages: list[str] = []

    def take(line: str) -> None:
        messages.append(line)
        _take_message(line, name, run.say, sampler)

    try:
        with sampler:
            ended = process.run(
                plan.command,
                process.environment_for(scratch, plan.environment),
                limit_s=run.effort.limits_s[name],
                on_message=take,
                watch=lambda: ("gpu lost", sampler.lost) if sampler.lost and run.hardware.gpus else None,
                folder=scratch,
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if ended.document is None:
        reason = ended.reason or "no reason"
        reason = run.together.why(reason) if run.together and not messages else reason
        return without("failed", ended.kind or "error", reason, ended.seconds, plan.command)
    return _measured(ended.document, ended.seconds, plan.command, run.settings.benchmark.quiet.spread)


def _take_message(line: str, name: str, say: Say, sampler: Sampler) -> None:
    """Take a workload's message: `phase NAME`, `progress SHARE TEXT`, or a line to show."""
    kind, _, text = line.partition(" ")
    if kind == "phase":
        sampler.phase(text.strip())
    elif kind == "progress":
        share, _, what = text.partition(" ")
        say(f"    {name} {float(share):4.0%} {what}")
    else:
        say(f"    {name}: {line}")


def _measured(document: Document, seconds: float, command: list[str], spread: float) -> Suite:
    return Suite(
        status="measured",
        reason=None,
        kind=None,
        seconds=round(seconds, 1),
        command=command,
        device=document["device"],
        workload=document["workload"],
        versions=document["versions"],
        metrics=[result.metric(measured, spread) for measured in document["metrics"]],
        checks=[Check.model_validate(check) for check in document.get("checks", [])],
        sensors={},
    )


def without(status: State, kind: str, reason: str, seconds: float = 0.0, command: list[str] | None = None) -> Suite:
    """Return the outcome of a suite that was not measured."""
    return Suite(
        status=status,
        reason=reason,
        kind=kind,
        seconds=round(seconds, 1),
        command=command or [],
        device=None,
        workload={},
        versions={},
        metrics=[],
        checks=[],
        sensors={},
    )
