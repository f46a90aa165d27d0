"""`gpu.benchmark`: the suites one after the other, each under a leash, and the result of all."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from vault_cube.bench.judge import criteria, result
from vault_cube.bench.judge.result import Result, Status, Suite
from vault_cube.bench.run import machine, process, suites
from vault_cube.bench.run.hardware import Hardware
from vault_cube.bench.run.sensors import Sampler
from vault_cube.bench.store import SUMMARY, Store, write_whole
from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings
from vault_cube.settings.benchmark import Suite as SuiteName

Say = Callable[[str], None]


def benchmark(
    settings: Settings,
    hardware: Hardware,
    say: Say,
    *,
    chosen: Sequence[str] = (),
    quick: bool = False,
    force: bool = False,
    cache: Path | None = None,
    workloads: Path = suites.WORKLOADS,
) -> Result:
    """Measure, judge and keep. Returns the result; its `verdict` says whether the box passed.

    chosen: suites, all of the pillar's when empty. force: measure busy GPUs, too. cache: Salt's cache folder, where the
    grain reads the summary. say: takes progress, a line each. Raises VaultCubeError.
    """
    wanted = settings.benchmark
    unknown = sorted(set(chosen) - set(wanted.suites))
    if unknown:
        raise VaultCubeError(
            f"{', '.join(unknown)}: no such suite; pillar benchmark:suites has {', '.join(wanted.suites)}"
        )
    effort = wanted.quick if quick else wanted.full
    store = Store(Path(wanted.results))
    names = [name for name in wanted.suites if not chosen or name in chosen]
    with store.exclusive("gpu.benchmark"):
        store.check_room()
        if not force and (busy := hardware.busy(wanted.quiet.gpu_utilisation)):
            raise VaultCubeError(
                f"{'; '.join(busy)}: a number from a busy or throttled GPU proves nothing; force=True measures anyway"
            )
        started, clock = datetime.now(UTC), time.monotonic()
        described = machine.describe(
            hardware.gpus, hardware.driver, hardware.simulated, Path(settings.validation.manifest)
        )
        usual = _usual(store, quick)
        found: dict[str, Suite] = {}
        samplers = {name: Sampler(hardware.read, min(wanted.stress.sample_s, 0.5)) for name in names}
        done: dict[SuiteName, list[Suite]] = {name: [] for name in names}
        steps = [(number, name) for number in range(1, effort.rounds + 1) for name in names]
        for step, (number, name) in enumerate(steps):
            if name in found:  # failed in an earlier round
                continue
            rest = [usual.get(one, 0.0) / effort.rounds for _, one in steps[step:] if one not in found]
            estimate = (
                f", about {sum(rest) / 60:.1f} min to go" if all(rest) else f", at most {effort.limits_s[name]} s"
            )
            what = f"[{step + 1}/{len(steps)}] {name}" + (f", round {number}" if effort.rounds > 1 else "")
            say(f"{what}{estimate}")
            try:
                one = measure(name, settings, hardware, say, samplers[name], quick=quick, workloads=workloads)
            except (KeyboardInterrupt, SystemExit):
                # Salt turns both Ctrl-C and SIGTERM into SystemExit
                found[name] = _without("interrupted", "interrupted", "interrupted by the user", 0.0, [])
                break
            if one.status == "measured":
                done[name].append(one)
            else:
                found[name] = one
            say(f"{what}: {one.status} in {one.seconds:.0f} s{f': {one.reason}' if one.reason else ''}")
        for name, rounds in done.items():
            if rounds and name not in found:
                found[name] = result.pooled(rounds, samplers[name].summary(), wanted.quiet.spread)
        found = {name: found[name] for name in names if name in found}
        made = _result(
            settings,
            described,
            found,
            names,
            started=started,
            seconds=time.monotonic() - clock,
            quick=quick,
            forced=force,
        )
        store.write(made.name, made.model_dump(mode="json"))
        if cache:
            write_whole(cache / SUMMARY, summary(made, store.folder / f"{made.name}.json"))
    return made


def measure(
    name: SuiteName,
    settings: Settings,
    hardware: Hardware,
    say: Say,
    sampler: Sampler,
    *,
    quick: bool,
    workloads: Path = suites.WORKLOADS,
) -> Suite:
    """Run one round of a suite to whatever end; never raises for what the workload does."""
    wanted = settings.benchmark
    effort = wanted.quick if quick else wanted.full
    environment = wanted.environments[name]
    if environment not in settings.frameworks.environments:
        reason = f"target {settings.target.name} has no environment {environment} (pillar frameworks:environments)"
        return _without("not measured", "missing", reason, 0.0, [])
    python = Path(settings.frameworks.folder) / environment / "bin/python"
    if not python.exists():
        reason = f"{python} is not there: `salt-call --local state.apply frameworks` makes it"
        return _without("failed", "missing", reason, 0.0, [])
    plan = suites.plan(name, python, wanted, effort, gpus=len(hardware.gpus), workloads=workloads)
    # vLLM is measured with the settings that the service has
    environ = plan.environment | (settings.frameworks.vllm.settings if name == "vllm" else {})
    scratch = Path(tempfile.mkdtemp(prefix="vault-cube-bench-"))
    try:
        with sampler:

            def heard(line: str) -> None:
                kind, _, text = line.partition(" ")
                if kind == "phase":
                    sampler.phase(text.strip())
                elif kind == "progress":
                    done, _, what = text.partition(" ")
                    say(f"    {name} {float(done):4.0%} {what}")
                else:
                    say(f"    {name}: {line}")

            def watch() -> tuple[str, str] | None:
                return ("gpu lost", sampler.problem) if sampler.problem and hardware.gpus else None

            ended = process.run(
                plan.command,
                process.environment_for(scratch, environ),
                limit_s=effort.limits_s[name],
                said=heard,
                watch=watch,
                folder=scratch,
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    document = ended.document
    if document is None:
        return _without("failed", ended.kind or "error", ended.reason or "no reason", ended.seconds, plan.command)
    return Suite(
        status="measured",
        reason=None,
        kind=None,
        seconds=round(ended.seconds, 1),
        command=plan.command,
        device=document["device"],
        workload=document["workload"],
        versions=document["versions"],
        metrics={key: result.metric(value, wanted.quiet.spread) for key, value in document["metrics"].items()},
        sensors={},
    )


def _without(status: Status, kind: str, reason: str, seconds: float, command: list[str]) -> Suite:
    return Suite(
        status=status,
        reason=reason,
        kind=kind,
        seconds=round(seconds, 1),
        command=command,
        device=None,
        workload={},
        versions={},
        metrics={},
        sensors={},
    )


def _result(
    settings: Settings,
    described: result.Machine,
    found: dict[str, Suite],
    names: Sequence[str],
    *,
    started: datetime,
    seconds: float,
    quick: bool,
    forced: bool,
) -> Result:
    wanted = settings.benchmark
    extra = criteria.derived(found, wanted)
    verdicts = criteria.verdicts(found, extra, described, settings.target.accelerator, wanted)
    notes = [f"{name}: not measured: {suite.reason}" for name, suite in found.items() if suite.status == "not measured"]
    notes += [f"{name}: not reached" for name in names if name not in found]
    if described.load[0] > wanted.quiet.load_per_core * described.cores:
        notes.append(f"noisy: load average {described.load[0]} on {described.cores} cores at the start")
    notes += [
        f"{name} is {metric.median:.2f}, more than all there is: its ceiling was measured in a worse moment, "
        f"measure again"
        for name, metric in extra.items()
        if metric.median > 1
    ]
    if described.simulated:
        notes.append("simulated: these GPUs are a test's")
    return Result(
        schema_version=1,
        name=f"benchmark-{started:%Y%m%dT%H%M%SZ}",
        started=f"{started:%Y-%m-%dT%H:%M:%SZ}",
        seconds=round(seconds, 1),
        quick=quick,
        forced=forced,
        machine=described,
        suites=found,
        derived=dict(extra),
        verdicts=verdicts,
        verdict=result.worst([one.said for one in verdicts]),
        notes=notes,
    )


def _usual(store: Store, quick: bool) -> dict[str, float]:
    """How long each suite took the last time with the same effort."""
    for name in reversed(store.names()):
        try:
            last = result.load(store.find(name))
        except VaultCubeError:
            continue
        if last.quick == quick:
            return {suite: one.seconds for suite, one in last.suites.items() if one.status == "measured"}
    return {}


def summary(made: Result, file: Path) -> dict[str, Any]:
    """What the grain `gpu_benchmark` shows of a result; what was not measured is absent."""
    ddp, vllm = made.suites.get("ddp"), made.suites.get("vllm")
    found: dict[str, Any] = {}

    def median(key: str, metric: result.Metric | None) -> None:
        if metric is not None:
            found[key] = {"median": _short(metric.median), "low": _short(metric.low), "high": _short(metric.high)}

    for model in ddp.workload.get("models", {}) if ddp else {}:
        median(f"ddp_{model}_efficiency", cast(Suite, ddp).metrics.get(f"{model}_efficiency"))
    if vllm:
        median("vllm_tokens_per_s", vllm.metrics.get("batch1_output"))
        median("vllm_saturated_tokens_per_s", vllm.metrics.get("saturated_output"))
    if "tensorflow" in made.suites:
        median("tensorflow_efficiency", made.suites["tensorflow"].metrics.get("efficiency"))
    for name, metric in made.derived.items():
        median(name, metric)
    shares = [one["utilisation"]["mean"] for one in ddp.sensors.values() if "utilisation" in one] if ddp else []
    if shares:
        found["utilisation"] = _short(min(shares))
    return {
        "verdict": made.verdict,
        "accelerator": made.machine.accelerator,
        "simulated": made.machine.simulated,
        "quick": made.quick,
        "started": made.started,
        "file": str(file),
        "verdicts": {one.name: one.said for one in made.verdicts},
        "suites": {name: one.status for name, one in made.suites.items()},
        **found,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
