"""`gpu.benchmark`: run the suites one after the other, each under a supervisor, and write one result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from vault_cube.bench.judge import cards, criteria, result
from vault_cube.bench.judge.derived import derived
from vault_cube.bench.judge.result import Machine, Metric, Result, Suite
from vault_cube.bench.judge.summary import summary
from vault_cube.bench.run import machine, suites
from vault_cube.bench.run.hardware import Hardware
from vault_cube.bench.run.measure import Run, Say, measure, without
from vault_cube.bench.run.rendezvous import Rendezvous
from vault_cube.bench.run.sensors import Sampler
from vault_cube.bench.store import SUMMARY, Store, write_whole
from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings
from vault_cube.settings.benchmark import Suite as SuiteName
from vault_cube.verdicts import Status, Verdict, worst

SAMPLE_S = 0.5
"""Most time between two readings of the sensors; quick runs are shorter than a second."""


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
    together: Rendezvous | None = None,
) -> Result:
    """Measure, judge and save a result. Its `verdict` is that of the whole box.

    say: called with each line of progress. chosen: names of suites; empty: all suites of the pillar. quick: use
    `benchmark:quick`, not `benchmark:full`. force: measure busy or throttled GPUs as well. cache: Salt's cache folder,
    from which the grain reads the summary; None: write no summary. workloads: folder of the workload programs.
    together: the boxes that train together in the suite ddp, whose outcome is the suite `ddp_boxes`; None: this box.

    Returns the result. Raises VaultCubeError for an unknown suite, a busy GPU, a running benchmark, or a full disk.
    """
    names = _names(settings, chosen)
    quiet = settings.benchmark.quiet
    store = Store(Path(settings.benchmark.results))
    run = Run(settings, hardware, say, quick, workloads, together)
    with store.exclusive("gpu.benchmark"):
        store.check_room()
        if not force and (busy := hardware.busy(quiet.gpu_utilisation, quiet.gpu_memory_mib)):
            raise VaultCubeError(
                f"{'; '.join(busy)}: a valid measurement needs idle, unthrottled GPUs; use force=True to measure anyway"
            )
        started, clock = datetime.now(UTC), time.monotonic()
        described = machine.describe(
            hardware.gpus, hardware.driver, hardware.simulated, Path(settings.validation.manifest)
        )
        outcomes = _rounds(run, names, {} if together else _usual(store, quick))
        if together:
            outcomes = {criteria.TOGETHER if name == "ddp" else name: suite for name, suite in outcomes.items()}
        finished = Result(
            schema_version=2,
            name=f"benchmark-{started:%Y%m%dT%H%M%SZ}",
            started=f"{started:%Y-%m-%dT%H:%M:%SZ}",
            seconds=round(time.monotonic() - clock, 1),
            quick=quick,
            forced=force,
            machine=described,
            suites=outcomes,
            **judge(settings, described, outcomes, list(outcomes) if together else names),
        )
        store.write(finished.name, finished.model_dump(mode="json"))
        if cache:
            write_whole(cache / SUMMARY, summary(finished, store.folder / f"{finished.name}.json"))
    return finished


def _names(settings: Settings, chosen: Sequence[str]) -> list[SuiteName]:
    wanted = settings.benchmark.suites
    unknown = sorted(set(chosen) - set(wanted))
    if unknown:
        raise VaultCubeError(
            f"{', '.join(unknown)}: no such suite; choose from pillar benchmark:suites: {', '.join(wanted)}"
        )
    return [name for name in wanted if not chosen or name in chosen]


def _rounds(run: Run, names: Sequence[SuiteName], usual: Mapping[str, float]) -> dict[str, Suite]:
    """Run all suites, then all of them again; return the outcome of each that was reached.

    usual: seconds of each suite in an earlier result, to estimate the time to go.
    """
    settings, effort = run.settings.benchmark, run.effort
    samplers: dict[str, Sampler] = {
        name: Sampler(run.hardware.read, min(settings.stress.sample_s, SAMPLE_S)) for name in names
    }
    failed: dict[str, Suite] = {}
    measured: dict[str, list[Suite]] = {name: [] for name in names}
    steps = [(number, name) for number in range(1, effort.rounds + 1) for name in names]
    for step, (number, name) in enumerate(steps):
        if name in failed:  # in an earlier round
            continue
        rest = [usual.get(later, 0.0) / effort.rounds for _, later in steps[step:] if later not in failed]
        to_go = f"about {sum(rest) / 60:.1f} min to go" if all(rest) else f"at most {effort.limits_s[name]} s"
        title = f"[{step + 1}/{len(steps)}] {name}" + (f", round {number}" if effort.rounds > 1 else "")
        run.say(f"{title}, {to_go}")
        try:
            suite = measure(name, run, samplers[name])
        except (KeyboardInterrupt, SystemExit):
            # Salt turns both Ctrl-C and SIGTERM into SystemExit
            failed[name] = without("interrupted", "interrupted", "interrupted by the user")
            break
        if suite.status == "measured":
            measured[name].append(suite)
        else:
            failed[name] = suite
        run.say(f"{title}: {suite.status} in {suite.seconds:.0f} s{f': {suite.reason}' if suite.reason else ''}")
    outcomes = failed | {
        name: result.pooled(rounds, samplers[name].summary(), settings.quiet.spread)
        for name, rounds in measured.items()
        if rounds and name not in failed
    }
    return {name: outcomes[name] for name in names if name in outcomes}


class Judged(TypedDict):
    """The judged fields of a result."""

    derived: list[Metric]
    verdicts: list[Verdict]
    verdict: Status
    notes: list[str]


def judge(settings: Settings, described: Machine, outcomes: Mapping[str, Suite], names: Sequence[str]) -> Judged:
    """Return the judged fields of a result. names: of the suites that were asked."""
    extra = derived(outcomes, settings.benchmark, cards.names(described))
    verdicts = criteria.verdicts(outcomes, extra, described, settings)
    notes = [
        f"{name}: not measured: {suite.reason}" for name, suite in outcomes.items() if suite.status == "not measured"
    ]
    notes += [f"{name}: not reached before the interruption" for name in names if name not in outcomes]
    if described.load[0] > settings.benchmark.quiet.load_per_core * described.cores:
        notes.append(f"noisy: load average {described.load[0]} on {described.cores} cores at the start")
    notes += [
        f"{metric.label} is {metric.median:.2f}, more than its ceiling, which was measured under worse conditions: "
        f"run the benchmark again"
        for metric in extra
        if metric.unit.startswith("share") and metric.median > 1
    ]
    boxes = outcomes.get(criteria.TOGETHER)
    if boxes and boxes.workload.get("backend") == "gloo":
        notes.append(
            f"{' and '.join(boxes.workload['boxes'])} trained on their CPUs, over TCP (gloo): this says nothing about "
            f"GPUs, NCCL or the network between GPUs"
        )
    if described.simulated:
        notes.append("simulated: the GPUs come from the fake NVML of the tests")
    return {
        "derived": extra,
        "verdicts": verdicts,
        "verdict": worst(verdict.status for verdict in verdicts),
        "notes": notes,
    }


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
