"""`gpu.stress`: burn every device for a time, a sample a second on disk, through reboots, to a verdict.

A burn is a folder `stress-<start>/` among the results: `plan.json` (what was asked, what is done), `samples.jsonl` (one
line a sample, flushed at least every `sync_s`), at the end `verdict.json`. An unfinished plan goes on where its
samples end.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from vault_cube.bench.judge import burn_verdict
from vault_cube.bench.run import machine
from vault_cube.bench.run.hardware import Hardware
from vault_cube.bench.run.process import Leashed, environment_for
from vault_cube.bench.run.suites import WORKLOADS
from vault_cube.bench.store import Store, write_whole
from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings

Say = Callable[[str], None]

UNFINISHED = "unfinished"
"""Among the results: the name of the burn that is not at its end. The systemd unit runs where this file is."""

GO_ON = "`gpu.stress resume=True` goes on, `gpu.stress abandon=True` judges what there is"

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(duration: str | float) -> float:
    """`90`, `60s`, `5m`, `24h`, `3d` in seconds. Raises VaultCubeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(duration).strip())
    if not found or not float(found[1]):
        raise VaultCubeError(f"{duration}: no duration; say 60s, 5m, 24h or 3d")
    return float(found[1]) * UNITS[found[2] or "s"]


@dataclass
class Plan:
    """What was asked and how far it is; kept in `plan.json`."""

    name: str
    seconds: float
    started: str
    boots: list[str]
    """the kernel's boot ids of all parts; more than one: it went on after a reboot"""
    ended: str | None = None
    why: str | None = None


def start(settings: Settings, duration: str | float) -> Plan:
    """Write a plan for a burn, to be run by `go_on`. Raises VaultCubeError when one is unfinished."""
    store = Store(Path(settings.benchmark.results))
    seconds = seconds_of(duration)
    if (old := unfinished(store)) is not None:
        raise VaultCubeError(f"{store.folder / old.name}: unfinished; {GO_ON}")
    now = datetime.now(UTC)
    plan = Plan(f"stress-{now:%Y%m%dT%H%M%SZ}", seconds, f"{now:%Y-%m-%dT%H:%M:%SZ}", [])
    with store.exclusive("gpu.stress"):
        _keep(store, plan)
        try:
            (store.folder / UNFINISHED).write_text(f"{plan.name}\n")
        except OSError as err:
            raise VaultCubeError(f"{store.folder / UNFINISHED}: {err.strerror}; the burn was not started") from None
    return plan


def unfinished(store: Store) -> Plan | None:
    """The plan that was not brought to its end, if there is one."""
    try:
        name = (store.folder / UNFINISHED).read_text().strip()
        return Plan(**json.loads((store.folder / name / "plan.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def abandon(settings: Settings) -> dict[str, Any]:
    """End an unfinished burn where it is; its samples get their verdict."""
    store = Store(Path(settings.benchmark.results))
    with store.exclusive("gpu.stress"):
        plan = unfinished(store)
        if plan is None:
            raise VaultCubeError(f"{store.folder}: no burn is unfinished")
        return _finish(store, plan, settings, "abandoned by the user", {})


def go_on(settings: Settings, hardware: Hardware, say: Say, workloads: Path = WORKLOADS) -> dict[str, Any]:
    """Burn what is left of the unfinished plan, and judge. Returns the verdict. Raises VaultCubeError."""
    wanted = settings.benchmark
    store = Store(Path(wanted.results))
    python = Path(settings.frameworks.folder) / wanted.environments["matmul"] / "bin/python"
    if not python.exists():
        raise VaultCubeError(f"{python} is not there: `salt-call --local state.apply frameworks` makes it")
    with store.exclusive("gpu.stress"):
        store.check_room()
        plan = unfinished(store)
        if plan is None:
            raise VaultCubeError(f"{store.folder}: no burn is unfinished; `gpu.stress duration=60s` starts one")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        if boot not in plan.boots:
            plan.boots.append(boot)
        _keep(store, plan)
        burn = _Burn(settings, hardware, say, store.folder / plan.name, plan.seconds)
        devices = [f"cuda:{gpu['index']}" for gpu in hardware.gpus] or ["cpu"]
        share = wanted.stress.memory["nvidia" if hardware.gpus else "cpu"]
        commands = {
            device: [str(python), str(workloads / "burn.py"), "--device", device, "--memory", f"{share:g}"]
            for device in devices
        }
        why = burn.run(commands)
        described = machine.describe(
            hardware.gpus, hardware.driver, hardware.simulated, Path(settings.validation.manifest)
        )
        facts = {"simulated": hardware.simulated, "machine": described.model_dump(mode="json")}
        return _finish(store, plan, settings, why, facts)


def _finish(store: Store, plan: Plan, settings: Settings, why: str | None, facts: dict[str, Any]) -> dict[str, Any]:
    folder = store.folder / plan.name
    plan.ended, plan.why = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", why
    verdict = {
        "schema_version": 1,
        "name": plan.name,
        "started": plan.started,
        "asked_s": plan.seconds,
        "boots": len(plan.boots),
        **facts,
        **burn_verdict.judge(samples(folder), plan.seconds, why, settings.benchmark.stress),
    }
    write_whole(folder / "verdict.json", verdict)
    _keep(store, plan)
    (store.folder / UNFINISHED).unlink(missing_ok=True)
    return verdict


def _keep(store: Store, plan: Plan) -> None:
    write_whole(store.folder / plan.name / "plan.json", asdict(plan))


def samples(folder: Path) -> Iterator[dict[str, Any]]:
    """The samples of a burn; a line that a power cut tore is left out."""
    try:
        with (folder / "samples.jsonl").open(errors="replace") as lines:
            for line in lines:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue
    except OSError:
        return


class _Burn:
    """One stretch of a burn, from a start or a reboot to the next end."""

    def __init__(self, settings: Settings, hardware: Hardware, say: Say, folder: Path, seconds: float) -> None:
        self.rule, self.hardware, self.say, self.folder, self.seconds = (
            settings.benchmark.stress,
            hardware,
            say,
            folder,
            seconds,
        )
        self.done = max((sample["at"] for sample in samples(folder)), default=0.0)
        self.heard: dict[str, float] = {}
        self.work: dict[str, dict[str, float]] = {}
        self.error: str | None = None

    def run(self, commands: dict[str, list[str]]) -> str | None:
        """Burn; returns None when the time was reached, else why it ended. Raises VaultCubeError when it may go on
        later."""
        running: dict[str, Leashed] = {}
        environment = environment_for(self.folder, {})
        try:
            for device, command in commands.items():
                self.heard[device] = time.monotonic()
                running[device] = Leashed(command, environment, _unheard, partial(self._take, device), self.folder)
            why = self._watch(running)
            for one in running.values():
                one.end()
            self._keep_last()
        except (KeyboardInterrupt, SystemExit):
            # Salt turns both Ctrl-C and systemd's stop into SystemExit
            raise VaultCubeError(f"{self.folder}: interrupted; {GO_ON}") from None
        except OSError as err:
            raise VaultCubeError(
                f"{err.filename or self.folder}: {err.strerror}; the burn was stopped; {GO_ON}"
            ) from None
        finally:
            for one in running.values():
                one.end()
        return why

    def _take(self, device: str, line: str) -> None:
        """One line of a burn."""
        try:
            said = json.loads(line)
        except ValueError:
            return
        self.heard[device] = time.monotonic()
        if "error" in said:
            self.error = f"{device}: {said['error']['kind']}: {said['error']['message']}"
        elif "products" in said:
            work = self.work.setdefault(device, {"products": 0, "wrong": 0})
            work["products"] += said["products"]
            work["wrong"] += said["wrong"]
            if "tflops" in said:
                work["tflops"] = said["tflops"]

    def _watch(self, running: dict[str, Leashed]) -> str | None:
        began, synced, told = time.monotonic(), time.monotonic(), 0.0
        offset = self.done
        with (self.folder / "samples.jsonl").open("ab") as out:
            if out.tell():
                out.write(b"\n")  # a power cut may have torn the last line
            while True:
                now = time.monotonic()
                due = began + (int((now - began) / self.rule.sample_s) + 1) * self.rule.sample_s
                time.sleep(due - now)
                at = self.done = offset + time.monotonic() - began
                reading = self._read()
                work, self.work = self.work, {}
                sample = {"at": round(at, 2), "time": round(time.time(), 2), "devices": reading, "work": work}
                out.write(json.dumps(sample).encode() + b"\n")
                out.flush()
                if time.monotonic() - synced > self.rule.sync_s:
                    os.fsync(out.fileno())
                    synced = time.monotonic()
                if time.monotonic() - told > max(10.0, self.seconds / 100):
                    told = time.monotonic()
                    self.say(f"{at:.0f} of {self.seconds:.0f} s: {_line(reading, work)}")
                if why := self._stop(reading, running):
                    os.fsync(out.fileno())
                    return why
                if at >= self.seconds:
                    os.fsync(out.fileno())
                    return None

    def _keep_last(self) -> None:
        """What the burns found when they were ended: what still lay in memory is compared then."""
        if self.work:
            sample = {"at": round(self.done, 2), "time": round(time.time(), 2), "devices": {}, "work": self.work}
            with (self.folder / "samples.jsonl").open("ab") as out:
                out.write(json.dumps(sample).encode() + b"\n")

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            return self.hardware.read()
        except Exception as err:
            return {"sensors": {"problem": f"{type(err).__name__}: {err}"[:200]}}

    def _stop(self, reading: dict[str, dict[str, Any]], running: dict[str, Leashed]) -> str | None:
        """Why the burn must end before its time."""
        for device, fields in reading.items():
            if fields.get("problem"):
                return f"{device}: {fields['problem']}"
            if fields.get("temperature_c", 0) >= self.rule.stop_celsius:
                return f"{device}: {fields['temperature_c']:g} deg C, the burn stops at {self.rule.stop_celsius}"
        for device, one in running.items():
            if one.process.poll() is not None:
                time.sleep(0.2)  # its last line may still be on its way
                last = list(one.tail)[-1:] or ["it said nothing"]
                return self.error or f"{device}: the burn ended with status {one.process.returncode}: {last[0][:200]}"
            if time.monotonic() - self.heard[device] > self.rule.silence_s:
                return f"{device}: no sign of the burn for {self.rule.silence_s:g} s: it hangs"
        return None


def _unheard(_: str) -> None:
    """A burn says nothing to us beside its samples."""


def _line(reading: dict[str, dict[str, Any]], work: dict[str, dict[str, float]]) -> str:
    parts = []
    for device, fields in reading.items():
        said = [
            f"{fields[key]:.0f} {unit}"
            for key, unit in (("temperature_c", "deg C"), ("power_w", "W"), ("clock_mhz", "MHz"))
            if key in fields
        ]
        parts.append(f"{device} {' '.join(said) or 'no sensors'}")
    wrong = sum(one["wrong"] for one in work.values())
    return f"{', '.join(parts)}; wrong values: {wrong:.0f}"
