"""`gpu.benchmark`: run the suites one after the other, each under a supervisor, and write one result."""

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
    """Measure, judge and save a result. Its `verdict` is that of the whole box.

    say: called with each line of progress. chosen: names of suites; empty: all suites of the pillar. quick: use
    `benchmark:quick`, not `benchmark:full`. force: measure busy or throttled GPUs as well. cache: Salt's cache folder,
    from which the grain reads the summary; None: write no summary. workloads: folder of the workload programs.

    Returns the result. Raises VaultCubeError for an unknown suite, a busy GPU, a running benchmark, or a full disk.
    """
    wanted = settings.benchmark
    unknown = sorted(set(chosen) - set(wanted.suites))
    if unknown:
        raise VaultCubeError(
            f"{', '.join(unknown)}: no such suite; choose from pillar benchmark:suites: {', '.join(wanted.suites)}"
        )
    effort = wanted.quick if quick else wanted.full
    store = Store(Path(wanted.results))
    names = [name for name in wanted.suites if not chosen or name in chosen]
    with store.exclusive("gpu.benchmark"):
        store.check_room()
        if not force and (busy := hardware.busy(wanted.quiet.gpu_utilisation)):
            raise VaultCubeError(
                f"{'; '.join(busy)}: a valid measurement needs idle, unthrottled GPUs; use force=True to measure anyway"
            )
        started, clock = datetime.now(UTC), time.monotonic()
        described = machine.describe(
            hardware.gpus, hardware.driver, hardware.simulated, Path(settings.validation.manifest)
        )
        usual = _usual(store, quick)
        outcomes: dict[str, Suite] = {}
        samplers = {name: Sampler(hardware.read, min(wanted.stress.sample_s, 0.5)) for name in names}
        done: dict[SuiteName, list[Suite]] = {name: [] for name in names}
        steps = [(number, name) for number in range(1, effort.rounds + 1) for name in names]
        for step, (number, name) in enumerate(steps):
            if name in outcomes:  # it failed in an earlier round
                continue
            rest = [usual.get(later, 0.0) / effort.rounds for _, later in steps[step:] if later not in outcomes]
            estimate = (
                f", about {sum(rest) / 60:.1f} min to go" if all(rest) else f", at most {effort.limits_s[name]} s"
            )
            what = f"[{step + 1}/{len(steps)}] {name}" + (f", round {number}" if effort.rounds > 1 else "")
            say(f"{what}{estimate}")
            try:
                suite = measure(name, settings, hardware, say, samplers[name], quick=quick, workloads=workloads)
            except (KeyboardInterrupt, SystemExit):
                # Salt turns both Ctrl-C and SIGTERM into SystemExit
                outcomes[name] = _without("interrupted", "interrupted", "interrupted by the user", 0.0, [])
                break
            if suite.status == "measured":
                done[name].append(suite)
            else:
                outcomes[name] = suite
            say(f"{what}: {suite.status} in {suite.seconds:.0f} s{f': {suite.reason}' if suite.reason else ''}")
        for name, rounds in done.items():
            if rounds and name not in outcomes:
                outcomes[name] = result.pooled(rounds, samplers[name].summary(), wanted.quiet.spread)
        outcomes = {name: outcomes[name] for name in names if name in outcomes}
        finished = _result(
            settings,
            described,
            outcomes,
            names,
            started=started,
            seconds=time.monotonic() - clock,
            quick=quick,
            forced=force,
        )
        store.write(finished.name, finished.model_dump(mode="json"))
        if cache:
            write_whole(cache / SUMMARY, summary(finished, store.folder / f"{finished.name}.json"))
    return finished


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
    """Run one round of a suite, and return its outcome. A failure of the workload is an outcome, not an exception.

    sampler: samples the sensors during the round, and receives the workload's phases.
    """
    wanted = settings.benchmark
    effort = wanted.quick if quick else wanted.full
    environment = wanted.environments[name]
    if environment not in settings.frameworks.environments:
        reason = f"target {settings.target.name} has no environment {environment} (pillar frameworks:environments)"
        return _without("not measured", "missing", reason, 0.0, [])
    python = Path(settings.frameworks.folder) / environment / "bin/python"
    if not python.exists():
        reason = f"{python} is missing; run `salt-call --local state.apply frameworks`"
        return _without("failed", "missing", reason, 0.0, [])
    plan = suites.plan(name, python, wanted, effort, gpus=len(hardware.gpus), workloads=workloads)
    # measure vLLM with the same settings as its service
    environ = plan.environment | (settings.frameworks.vllm.settings if name == "vllm" else {})
    scratch = Path(tempfile.mkdtemp(prefix="vault-cube-bench-"))
    try:
        with sampler:

            def take_message(line: str) -> None:
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
                on_message=take_message,
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
    outcomes: dict[str, Suite],
    names: Sequence[str],
    *,
    started: datetime,
    seconds: float,
    quick: bool,
    forced: bool,
) -> Result:
    wanted = settings.benchmark
    extra = criteria.derived(outcomes, wanted)
    verdicts = criteria.verdicts(outcomes, extra, described, settings.target.accelerator, wanted)
    notes = [
        f"{name}: not measured: {suite.reason}" for name, suite in outcomes.items() if suite.status == "not measured"
    ]
    notes += [f"{name}: not reached before the interruption" for name in names if name not in outcomes]
    if described.load[0] > wanted.quiet.load_per_core * described.cores:
        notes.append(f"noisy: load average {described.load[0]} on {described.cores} cores at the start")
    notes += [
        f"{name} is {metric.median:.2f}, more than its ceiling, which was measured under worse conditions: "
        f"run the benchmark again"
        for name, metric in extra.items()
        if metric.median > 1
    ]
    if described.simulated:
        notes.append("simulated: the GPUs come from the fake NVML of the tests")
    return Result(
        schema_version=1,
        name=f"benchmark-{started:%Y%m%dT%H%M%SZ}",
        started=f"{started:%Y-%m-%dT%H:%M:%SZ}",
        seconds=round(seconds, 1),
        quick=quick,
        forced=forced,
        machine=described,
        suites=outcomes,
        derived=dict(extra),
        verdicts=verdicts,
        verdict=result.worst([verdict.said for verdict in verdicts]),
        notes=notes,
    )


def _usual(store: Store, quick: bool) -> dict[str, float]:
    """Return the seconds of each suite in the last result of the same effort (quick or full)."""
    for result_name in reversed(store.names()):
        try:
            last = result.load(store.find(result_name))
        except VaultCubeError:
            continue
        if last.quick == quick:
            return {name: suite.seconds for name, suite in last.suites.items() if suite.status == "measured"}
    return {}


def summary(measured: Result, file: Path) -> dict[str, Any]:
    """Return the summary of a result for the grain `gpu_benchmark`. Values that were not measured are absent."""
    ddp, vllm = measured.suites.get("ddp"), measured.suites.get("vllm")
    numbers: dict[str, Any] = {}

    def median(key: str, metric: result.Metric | None) -> None:
        if metric is not None:
            numbers[key] = {"median": _short(metric.median), "low": _short(metric.low), "high": _short(metric.high)}

    for model in ddp.workload.get("models", {}) if ddp else {}:
        median(f"ddp_{model}_efficiency", cast(Suite, ddp).metrics.get(f"{model}_efficiency"))
    if vllm:
        median("vllm_tokens_per_s", vllm.metrics.get("batch1_output"))
        median("vllm_saturated_tokens_per_s", vllm.metrics.get("saturated_output"))
    if "tensorflow" in measured.suites:
        median("tensorflow_efficiency", measured.suites["tensorflow"].metrics.get("efficiency"))
    for name, metric in measured.derived.items():
        median(name, metric)
    shares = (
        [fields["utilisation"]["mean"] for fields in ddp.sensors.values() if "utilisation" in fields] if ddp else []
    )
    if shares:
        numbers["utilisation"] = _short(min(shares))
    return {
        "verdict": measured.verdict,
        "accelerator": measured.machine.accelerator,
        "simulated": measured.machine.simulated,
        "quick": measured.quick,
        "started": measured.started,
        "file": str(file),
        "verdicts": {verdict.name: verdict.said for verdict in measured.verdicts},
        "suites": {name: suite.status for name, suite in measured.suites.items()},
        **numbers,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
