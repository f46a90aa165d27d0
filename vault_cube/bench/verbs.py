"""The commands behind the functions of `_modules/gpu.py`. Each returns the data to show, and whether it succeeded."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import yaml

from vault_cube import process
from vault_cube.bench import stress as burn_in
from vault_cube.bench.fields import BurnIn
from vault_cube.bench.judge import compare as comparison
from vault_cube.bench.judge import result
from vault_cube.bench.judge.summary import summary
from vault_cube.bench.report import pages
from vault_cube.bench.run import rendezvous as meeting
from vault_cube.bench.run import runner
from vault_cube.bench.run.hardware import open_hardware
from vault_cube.bench.store import Store
from vault_cube.errors import VaultCubeError
from vault_cube.gpu.verbs import Answer
from vault_cube.settings import Settings
from vault_cube.verdicts import EXIT_CODES, OK, Report


def say(line: str) -> None:
    """Print a line of progress on stderr; stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


def benchmark(
    settings: Settings,
    suite: str | None,
    *,
    cache: str,
    quick: bool,
    force: bool,
    boxes: int | None = None,
    rendezvous: str | None = None,
) -> Answer:
    """Run the benchmark; exit code 0 if all verdicts are ok or not applicable, 1 if one is uncertain, 2 at a fault.

    suite: comma-separated names of suites, or None for all. cache: Salt's cache folder. quick: short measurement.
    force: measure busy GPUs as well. boxes, rendezvous: train over several boxes, as `rendezvous.asked`; the grain
    keeps the result of this box alone. Raises VaultCubeError.
    """
    chosen = [name.strip() for name in (suite or "").split(",") if name.strip()]
    together = meeting.asked(settings.benchmark.together, boxes, rendezvous, chosen)
    grain = None if together else Path(cache)
    with open_hardware(settings.gpu.answer_s) as hardware:
        measured = runner.benchmark(
            settings, hardware, say, chosen=chosen, quick=quick, force=force, cache=grain, together=together
        )
    return shown(measured, Path(settings.benchmark.results) / f"{measured.name}.json")


def shown(measured: result.Result, file: Path) -> Answer:
    """Show a result: for a person the table of its verdicts, for a program its summary. file: of the whole result."""
    document = {**summary(measured, file), **({"notes": measured.notes} if measured.notes else {})}
    cards = Counter(str(gpu.get("name")) for gpu in measured.machine.gpus)
    subject = ", ".join(f"{count} x {name}" for name, count in cards.items()) or measured.machine.processor
    report = Report(subject, measured.verdicts, measured.machine.simulated, measured.started)
    return Answer(document, report.exit_code, lambda: "\n".join([report.table(), *measured.notes, str(file)]))


def compare(settings: Settings, a: str, b: str) -> Answer:
    """Compare two results; exit code 1 if a metric is slower. Raises VaultCubeError if a result is missing."""
    store = Store(Path(settings.benchmark.results))
    changed = comparison.compare(result.load(store.find(a)), result.load(store.find(b)), settings.benchmark.compare)
    return _yaml(changed, any(change["means"] == "slower" for change in changed["changes"].values()))


def stress(settings: Settings, duration: str | None, *, resume: bool, abandon: bool, background: bool | None) -> Answer:
    """Run a burn-in in the foreground or as a systemd unit; exit code 0 if it is ok, or if the unit was started.

    duration: as for `stress.seconds_of`; needed unless resume or abandon is set. resume: continue the unfinished
    burn-in. abandon: end it and judge its samples. background: force or forbid the unit; None: decide by duration.
    Raises VaultCubeError.
    """
    rule = settings.benchmark.stress
    if abandon:
        return _burnt(burn_in.abandon(settings))
    if not resume:
        if duration is None:
            raise VaultCubeError(
                "gpu.stress: a duration is required, such as duration=24h or 60s; or resume=True, or abandon=True"
            )
        length = burn_in.seconds_of(duration)
        systemd = Path("/run/systemd/system").is_dir() and Path("/etc/systemd/system", rule.unit).exists()
        if background and not systemd:
            raise VaultCubeError(
                f"{rule.unit}: no such unit; run `salt-call --local state.apply validation` to install it"
            )
        plan = burn_in.start(settings, duration)
        if systemd and (length > rule.background_s if background is None else background):
            process.run(["systemctl", "start", "--no-block", rule.unit], purpose=rule.unit)
            line = f"{plan.name} runs for {pages.span(length)}; follow it with `journalctl -fu {rule.unit}`"
            return Answer({"name": plan.name, "unit": rule.unit, "seconds": length}, 0, lambda: line)
    with open_hardware(settings.gpu.answer_s) as hardware:
        return _burnt(burn_in.go_on(settings, hardware, say))


def _burnt(verdict: BurnIn) -> Answer:
    return _yaml(_without_curves(verdict), EXIT_CODES[verdict["verdict"]])


def _yaml(document: Mapping[str, object], exit_code: int) -> Answer:
    """Return an answer whose text is the document as YAML."""
    return Answer(document, int(exit_code), lambda: yaml.safe_dump(dict(document), sort_keys=False, width=120))


def _without_curves(verdict: BurnIn) -> dict[str, object]:
    """Return a verdict without its curves, its passing hours and its machine; these are in its file."""
    devices = {
        device: {
            key: {part: number for part, number in value.items() if part != "curve"}
            if isinstance(value, dict)
            else value
            for key, value in fields.items()
        }
        for device, fields in verdict["devices"].items()
    }
    cards = {
        device: {**card, "hours": [hour for hour in card["hours"] if hour["verdict"] != OK]}
        for device, card in verdict["cards"].items()
    }
    shown = {key: value for key, value in verdict.items() if key != "machine"}
    return shown | {"devices": devices, "cards": cards}


def report(settings: Settings, name: str, burn: str, *, folder: str | None) -> Answer:
    """Write the report of a result and a burn-in, as HTML and Markdown; return the two files.

    name, burn: of the result and the burn-in; `last` is the newest, if there is one. folder: where to write; None: the
    results folder. Raises VaultCubeError if there is neither, if a named one is missing, or if writing fails.
    """
    store = Store(Path(settings.benchmark.results))
    verdicts = sorted(store.folder.glob("stress-*/verdict.json"))
    measured = None if name == "last" and not store.names() else result.load(store.find(name))
    chosen = [file for file in verdicts if burn in ("last", file.parent.name)]
    if burn != "last" and not chosen:
        raise VaultCubeError(f"{store.folder}: there is no finished burn-in named {burn}")
    if measured is None and not chosen:
        raise VaultCubeError(f"{store.folder}: nothing was measured yet; run `gpu.benchmark` or `gpu.stress` first")
    page, text = pages.make(measured, json.loads(chosen[-1].read_text()) if chosen else None, settings.benchmark)
    target = Path(folder or store.folder)
    written = {}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for ending, body in (("html", page), ("md", text)):
            file = target / f"report.{ending}"
            file.write_text(body)
            written[ending] = str(file)
    except OSError as err:
        raise VaultCubeError(f"{err.filename or target}: {err.strerror}; the report was not written") from None
    return _yaml(written, 0)
