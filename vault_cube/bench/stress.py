"""`gpu.stress`: burn in every device, write samples to disk, continue after reboots, and judge at the end.

A burn-in is a folder `stress-<start>/` in the results folder: `plan.json` (the request and its progress),
`samples.jsonl` (one line per sample, synced at least every `sync_s` seconds), and at the end `verdict.json`. An
unfinished burn-in continues where its samples end.
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
from vault_cube.bench.run.process import Supervised, environment_for
from vault_cube.bench.run.suites import WORKLOADS
from vault_cube.bench.store import Store, write_whole
from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings

Say = Callable[[str], None]

UNFINISHED = "unfinished"
"""File in the results folder with the name of the unfinished burn-in. The systemd unit runs only if it exists."""

GO_ON = "continue it with `gpu.stress resume=True`, or judge its samples so far with `gpu.stress abandon=True`"

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(duration: str | float) -> float:
    """Convert a duration such as `90`, `60s`, `5m`, `24h` or `3d` to seconds. Raises VaultCubeError if it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(duration).strip())
    if not match or not float(match[1]):
        raise VaultCubeError(f"{duration}: not a duration; write it as 60s, 5m, 24h or 3d")
    return float(match[1]) * UNITS[match[2] or "s"]


@dataclass
class Plan:
    """The request for a burn-in and its progress, stored in `plan.json`."""

    name: str
    seconds: float
    started: str
    boots: list[str]
    """The kernel's boot IDs during the burn-in. More than one means that it continued after a reboot."""
    ended: str | None = None
    why: str | None = None


def start(settings: Settings, duration: str | float) -> Plan:
    """Write the plan of a burn-in; `go_on` runs it.

    duration: as for `seconds_of`. Returns the plan. Raises VaultCubeError if another burn-in is unfinished.
    """
    store = Store(Path(settings.benchmark.results))
    seconds = seconds_of(duration)
    if (old := unfinished(store)) is not None:
        raise VaultCubeError(f"{store.folder / old.name}: this burn-in is unfinished; {GO_ON}")
    now = datetime.now(UTC)
    plan = Plan(f"stress-{now:%Y%m%dT%H%M%SZ}", seconds, f"{now:%Y-%m-%dT%H:%M:%SZ}", [])
    with store.exclusive("gpu.stress"):
        _save(store, plan)
        try:
            (store.folder / UNFINISHED).write_text(f"{plan.name}\n")
        except OSError as err:
            raise VaultCubeError(f"{store.folder / UNFINISHED}: {err.strerror}; the burn-in was not started") from None
    return plan


def unfinished(store: Store) -> Plan | None:
    """Return the plan of the unfinished burn-in, or None."""
    try:
        name = (store.folder / UNFINISHED).read_text().strip()
        return Plan(**json.loads((store.folder / name / "plan.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def abandon(settings: Settings) -> dict[str, Any]:
    """End the unfinished burn-in now, and return the verdict on its samples. Raises VaultCubeError if there is none."""
    store = Store(Path(settings.benchmark.results))
    with store.exclusive("gpu.stress"):
        plan = unfinished(store)
        if plan is None:
            raise VaultCubeError(f"{store.folder}: there is no unfinished burn-in")
        return _finish(store, plan, settings, "abandoned by the user", {})


def go_on(settings: Settings, hardware: Hardware, say: Say, workloads: Path = WORKLOADS) -> dict[str, Any]:
    """Run the rest of the unfinished burn-in, and judge it.

    say: called with each line of progress. workloads: folder of the workload programs. Returns the verdict. Raises
    VaultCubeError if there is no unfinished burn-in, or if it was interrupted and can continue later.
    """
    wanted = settings.benchmark
    store = Store(Path(wanted.results))
    python = Path(settings.frameworks.folder) / wanted.environments["matmul"] / "bin/python"
    if not python.exists():
        raise VaultCubeError(f"{python} is missing; run `salt-call --local state.apply frameworks`")
    with store.exclusive("gpu.stress"):
        store.check_room()
        plan = unfinished(store)
        if plan is None:
            raise VaultCubeError(
                f"{store.folder}: there is no unfinished burn-in; start one with `gpu.stress duration=60s`"
            )
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        if boot not in plan.boots:
            plan.boots.append(boot)
        _save(store, plan)
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
    _save(store, plan)
    (store.folder / UNFINISHED).unlink(missing_ok=True)
    return verdict


def _save(store: Store, plan: Plan) -> None:
    write_whole(store.folder / plan.name / "plan.json", asdict(plan))


def samples(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the samples of a burn-in, without lines that a power cut truncated. folder: that of the burn-in."""
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
    """One run of a burn-in, from its start, or the last reboot, to its end or interruption."""

    def __init__(self, settings: Settings, hardware: Hardware, say: Say, folder: Path, seconds: float) -> None:
        self.rule, self.hardware, self.say, self.folder, self.seconds = (
            settings.benchmark.stress,
            hardware,
            say,
            folder,
            seconds,
        )
        self.done = max((sample["at"] for sample in samples(folder)), default=0.0)
        self.last_output: dict[str, float] = {}
        self.work: dict[str, dict[str, float]] = {}
        self.error: str | None = None

    def run(self, commands: dict[str, list[str]]) -> str | None:
        """Run the commands until the requested time is reached.

        commands: by device. Returns None at the requested time, else the reason for the early end. Raises
        VaultCubeError if the burn-in was interrupted and can continue later.
        """
        running: dict[str, Supervised] = {}
        environment = environment_for(self.folder, {})
        try:
            for device, command in commands.items():
                self.last_output[device] = time.monotonic()
                running[device] = Supervised(command, environment, _ignore, partial(self._take, device), self.folder)
            why = self._watch(running)
            for process in running.values():
                process.end()
            self._save_last()
        except (KeyboardInterrupt, SystemExit):
            # Salt turns both Ctrl-C and systemd's stop into SystemExit
            raise VaultCubeError(f"{self.folder}: interrupted; {GO_ON}") from None
        except OSError as err:
            raise VaultCubeError(
                f"{err.filename or self.folder}: {err.strerror}; the burn-in stopped; {GO_ON}"
            ) from None
        finally:
            for process in running.values():
                process.end()
        return why

    def _take(self, device: str, line: str) -> None:
        """Take one line of a burn program's stdout."""
        try:
            message = json.loads(line)
        except ValueError:
            return
        self.last_output[device] = time.monotonic()
        if "error" in message:
            self.error = f"{device}: {message['error']['kind']}: {message['error']['message']}"
        elif "products" in message:
            work = self.work.setdefault(device, {"products": 0, "wrong": 0})
            work["products"] += message["products"]
            work["wrong"] += message["wrong"]
            if "tflops" in message:
                work["tflops"] = message["tflops"]

    def _watch(self, running: dict[str, Supervised]) -> str | None:
        began, synced, reported = time.monotonic(), time.monotonic(), 0.0
        offset = self.done
        with (self.folder / "samples.jsonl").open("ab") as out:
            if out.tell():
                out.write(b"\n")  # a power cut may have truncated the last line
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
                if time.monotonic() - reported > max(10.0, self.seconds / 100):
                    reported = time.monotonic()
                    self.say(f"{at:.0f} of {self.seconds:.0f} s: {_line(reading, work)}")
                if why := self._stop(reading, running):
                    os.fsync(out.fileno())
                    return why
                if at >= self.seconds:
                    os.fsync(out.fileno())
                    return None

    def _save_last(self) -> None:
        """Save the last counts of the burn programs: at their end they compare the buffers that are still in memory."""
        if self.work:
            sample = {"at": round(self.done, 2), "time": round(time.time(), 2), "devices": {}, "work": self.work}
            with (self.folder / "samples.jsonl").open("ab") as out:
                out.write(json.dumps(sample).encode() + b"\n")

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            return self.hardware.read()
        except Exception as err:
            return {"sensors": {"problem": f"{type(err).__name__}: {err}"[:200]}}

    def _stop(self, reading: dict[str, dict[str, Any]], running: dict[str, Supervised]) -> str | None:
        """Return the reason why the burn-in must end early, or None."""
        for device, fields in reading.items():
            if fields.get("problem"):
                return f"{device}: {fields['problem']}"
            if fields.get("temperature_c", 0) >= self.rule.stop_celsius:
                return (
                    f"{device}: {fields['temperature_c']:g} deg C, the limit is {self.rule.stop_celsius} "
                    "(pillar benchmark:stress:stop_celsius)"
                )
        for device, program in running.items():
            if program.process.poll() is not None:
                time.sleep(0.2)  # the reader thread may not have its last line yet
                last = list(program.tail)[-1:] or ["no output on stderr"]
                return self.error or (
                    f"{device}: the burn program exited with status {program.process.returncode}: {last[0][:200]}"
                )
            if time.monotonic() - self.last_output[device] > self.rule.silence_s:
                return f"{device}: no output of the burn program for {self.rule.silence_s:g} s; it hangs"
        return None


def _ignore(_: str) -> None:
    """Ignore messages of the burn program; it reports only through stdout."""


def _line(reading: dict[str, dict[str, Any]], work: dict[str, dict[str, float]]) -> str:
    parts = []
    for device, fields in reading.items():
        values = [
            f"{fields[key]:.0f} {unit}"
            for key, unit in (("temperature_c", "deg C"), ("power_w", "W"), ("clock_mhz", "MHz"))
            if key in fields
        ]
        parts.append(f"{device} {' '.join(values) or 'no sensors'}")
    wrong = sum(done["wrong"] for done in work.values())
    return f"{', '.join(parts)}; wrong values: {wrong:.0f}"
