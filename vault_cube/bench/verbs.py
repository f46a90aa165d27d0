"""The commands behind the functions of `_modules/gpu.py`. Each returns the data to show, and whether it succeeded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vault_cube.bench import stress as burn_in
from vault_cube.bench.judge import compare as comparison
from vault_cube.bench.judge import result
from vault_cube.bench.judge.summary import summary
from vault_cube.bench.report import pages
from vault_cube.bench.run import runner
from vault_cube.bench.run.hardware import open_hardware
from vault_cube.bench.store import Store
from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings

Answer = tuple[Any, bool]


def say(line: str) -> None:
    """Print a line of progress on stderr; stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


def benchmark(settings: Settings, suite: str | None, *, cache: str, quick: bool, force: bool) -> Answer:
    """Run the benchmark; succeeds if the verdict is `pass`, or if the pillar has no threshold for what was measured.

    suite: comma-separated names of suites, or None for all. cache: Salt's cache folder. quick: short measurement.
    force: measure busy GPUs as well. Raises VaultCubeError.
    """
    chosen = [name.strip() for name in (suite or "").split(",") if name.strip()]
    with open_hardware(settings.gpu.answer_s) as hardware:
        measured = runner.benchmark(settings, hardware, say, chosen=chosen, quick=quick, force=force, cache=Path(cache))
    file = Path(settings.benchmark.results) / f"{measured.name}.json"
    failed = {name: f"{outcome.kind}: {outcome.reason}" for name, outcome in measured.suites.items() if outcome.reason}
    shown = (
        summary(measured, file)
        | ({"failed": failed} if failed else {})
        | ({"notes": measured.notes} if measured.notes else {})
    )
    return shown, measured.verdict in ("pass", "not applicable")


def compare(settings: Settings, a: str, b: str) -> Answer:
    """Compare two results; succeeds unless a metric is slower. Raises VaultCubeError if a result is missing."""
    store = Store(Path(settings.benchmark.results))
    changed = comparison.compare(result.load(store.find(a)), result.load(store.find(b)), settings.benchmark.compare)
    return changed, not any(change["means"] == "slower" for change in changed["changes"].values())


def stress(settings: Settings, duration: str | None, *, resume: bool, abandon: bool, background: bool | None) -> Answer:
    """Run a burn-in in the foreground or as a systemd unit; succeeds if it passes, or if the unit was started.

    duration: as for `stress.seconds_of`; needed unless resume or abandon is set. resume: continue the unfinished
    burn-in. abandon: end it and judge its samples. background: force or forbid the unit; None: decide by duration.
    Raises VaultCubeError.
    """
    rule = settings.benchmark.stress
    if abandon:
        verdict = burn_in.abandon(settings)
        return _without_curves(verdict), verdict["verdict"] == "pass"
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
            subprocess.run(["systemctl", "start", "--no-block", rule.unit], check=True, capture_output=True)
            return f"{plan.name} runs for {pages.span(length)}; follow it with `journalctl -fu {rule.unit}`", True
    with open_hardware(settings.gpu.answer_s) as hardware:
        verdict = burn_in.go_on(settings, hardware, say)
    return _without_curves(verdict), verdict["verdict"] == "pass"


def _without_curves(verdict: dict[str, Any]) -> dict[str, Any]:
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
        device: {**card, "hours": [hour for hour in card["hours"] if hour["verdict"] != "pass"]}
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
    return written, True
