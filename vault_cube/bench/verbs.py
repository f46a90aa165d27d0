"""What people type, behind the functions of `_modules/gpu.py`. Each returns what is shown, and whether all is well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vault_cube.bench import stress as burning
from vault_cube.bench.judge import compare as comparison
from vault_cube.bench.judge import result
from vault_cube.bench.report import pages
from vault_cube.bench.run import runner
from vault_cube.bench.run.hardware import open_hardware
from vault_cube.bench.store import Store
from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings

Answer = tuple[Any, bool]


def say(line: str) -> None:
    """Progress, beside the result."""
    print(line, file=sys.stderr, flush=True)


def benchmark(settings: Settings, suite: str | None, *, cache: str, quick: bool, force: bool) -> Answer:
    """Measure; well when it passed, or nothing was there to be judged and nothing failed."""
    chosen = [name.strip() for name in (suite or "").split(",") if name.strip()]
    with open_hardware(settings.gpu.answer_s) as hardware:
        made = runner.benchmark(settings, hardware, say, chosen=chosen, quick=quick, force=force, cache=Path(cache))
    file = Path(settings.benchmark.results) / f"{made.name}.json"
    failed = {name: f"{one.kind}: {one.reason}" for name, one in made.suites.items() if one.reason}
    shown = (
        runner.summary(made, file)
        | ({"failed": failed} if failed else {})
        | ({"notes": made.notes} if made.notes else {})
    )
    return shown, made.verdict in ("pass", "not judged")


def compare(settings: Settings, a: str, b: str) -> Answer:
    """Compare two results; well unless something is slower."""
    store = Store(Path(settings.benchmark.results))
    found = comparison.compare(result.load(store.find(a)), result.load(store.find(b)), settings.benchmark.compare)
    return found, not any(one["means"] == "slower" for one in found["changes"].values())


def stress(settings: Settings, duration: str | None, *, resume: bool, abandon: bool, background: bool | None) -> Answer:
    """Burn here, or start the unit that does; well when the verdict is pass, or the unit was started."""
    rule = settings.benchmark.stress
    if abandon:
        verdict = burning.abandon(settings)
        return _without_curves(verdict), verdict["said"] == "pass"
    if not resume:
        if duration is None:
            raise VaultCubeError(
                "gpu.stress: say how long, such as duration=24h or duration=60s; or resume=True, abandon=True"
            )
        length = burning.seconds_of(duration)
        systemd = Path("/run/systemd/system").is_dir() and Path("/etc/systemd/system", rule.unit).exists()
        if background and not systemd:
            raise VaultCubeError(f"{rule.unit}: no such unit here; `salt-call --local state.apply validation` makes it")
        plan = burning.start(settings, duration)
        if systemd and (length > rule.background_s if background is None else background):
            subprocess.run(["systemctl", "start", "--no-block", rule.unit], check=True, capture_output=True)
            return f"{plan.name} burns for {pages.span(length)}; follow it with `journalctl -fu {rule.unit}`", True
    with open_hardware(settings.gpu.answer_s) as hardware:
        verdict = burning.go_on(settings, hardware, say)
    return _without_curves(verdict), verdict["said"] == "pass"


def _without_curves(verdict: dict[str, Any]) -> dict[str, Any]:
    """A verdict as a person reads it; the curves and the machine stay in its file."""
    devices = {
        device: {
            key: {part: one for part, one in value.items() if part != "curve"} if isinstance(value, dict) else value
            for key, value in fields.items()
        }
        for device, fields in verdict["devices"].items()
    }
    return {key: value for key, value in verdict.items() if key != "machine"} | {"devices": devices}


def report(settings: Settings, name: str, burn: str, *, folder: str | None) -> Answer:
    """Write the report of what there is; at least one of result and burn must be there."""
    store = Store(Path(settings.benchmark.results))
    verdicts = sorted(store.folder.glob("stress-*/verdict.json"))
    found = None if name == "last" and not store.names() else result.load(store.find(name))
    chosen = [file for file in verdicts if burn in ("last", file.parent.name)]
    if burn != "last" and not chosen:
        raise VaultCubeError(f"{store.folder}: there is no finished burn {burn}")
    if found is None and not chosen:
        raise VaultCubeError(f"{store.folder}: nothing was measured yet; `gpu.benchmark` and `gpu.stress` do")
    page, text = pages.make(found, json.loads(chosen[-1].read_text()) if chosen else None, settings.benchmark)
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
