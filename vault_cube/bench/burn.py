"""The running part of a burn-in: one program per device, and one sample of all sensors per interval."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vault_cube.bench.fields import Reading, Sample, Sensor, Work
from vault_cube.bench.run.hardware import Hardware
from vault_cube.bench.run.process import Supervised, environment_for
from vault_cube.errors import VaultCubeError
from vault_cube.settings import Settings

Say = Callable[[str], None]

SHOWN: tuple[tuple[Sensor, str], ...] = (("temperature_c", "deg C"), ("power_w", "W"), ("clock_mhz", "MHz"))
"""Sensor in a line of progress, and its unit."""
GO_ON = "continue it with `gpu.stress resume=True`, or judge its samples so far with `gpu.stress abandon=True`"


class Program(NamedTuple):
    """The program that burns one device: its command, and the environment variables to add."""

    command: list[str]
    environment: dict[str, str]


def samples(folder: Path) -> Iterator[Sample]:
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


class Burn:
    """One run of a burn-in, from its start, or the last reboot, to its end or interruption."""

    def __init__(self, settings: Settings, hardware: Hardware, say: Say, folder: Path, seconds: float) -> None:
        self.rule, self.hardware, self.say = settings.benchmark.stress, hardware, say
        self.folder, self.seconds = folder, seconds
        self.boot = 1
        """Number of the boot, from 1; counters of the driver and the kernel begin again with each."""
        self.done, self.last_time = 0.0, 0.0
        for sample in samples(folder):
            self.done, self.last_time = max(self.done, sample["at"]), sample.get("time", 0.0)
        self.seen: dict[str, float] = {}
        """Monotonic time of the last temperature of each GPU."""
        self.last_output: dict[str, float] = {}
        self.work: dict[str, Work] = {}
        self.error: str | None = None

    def blind(self, patience_s: float) -> list[str]:
        """Return the GPUs that give no temperature within so many seconds, each with the reason.

        None on a CPU, which protects itself.
        """
        until = time.monotonic() + patience_s
        while True:
            reading = self._read()
            devices = [f"cuda:{gpu['index']}" for gpu in self.hardware.gpus]
            blind = [
                f"{device}: no temperature: {_reason(reading, device)}"
                for device in devices
                if "temperature_c" not in reading.get(device, {})
            ]
            if not blind or time.monotonic() > until:
                return blind
            time.sleep(min(self.rule.sample_s, 1.0))

    def save_earlier_xids(self, since: float) -> None:
        """Save the XIDs of the kernel's log since a time, in seconds since 1970: nobody listened to them."""
        logged = self.hardware.earlier_xids(since)
        if logged:
            devices: Reading = {
                device: {"log": True, "xids": [event["xid"] for event in events]} for device, events in logged.items()
            }
            self._append({"at": round(self.done, 2), "devices": devices, "work": {}})

    def run(self, programs: dict[str, Program]) -> str | None:
        """Run the programs until the requested time is reached.

        programs: by device. Returns None at the requested time, else the reason for the early end. Raises
        VaultCubeError if the burn-in was interrupted and can continue later.
        """
        running: dict[str, Supervised] = {}
        try:
            for device, program in programs.items():
                self.last_output[device] = time.monotonic()
                environment = environment_for(self.folder, program.environment)
                running[device] = Supervised(
                    program.command, environment, _ignore, partial(self._take, device), self.folder
                )
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
                out.write(json.dumps(self._sample(at, reading, work)).encode() + b"\n")
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

    def _sample(self, at: float, reading: Reading, work: dict[str, Work]) -> Sample:
        now = round(time.time(), 2)
        return {"at": round(at, 2), "time": now, "boot": self.boot, "devices": reading, "work": work}

    def _append(self, sample: Sample) -> None:
        with (self.folder / "samples.jsonl").open("ab") as out:
            out.write((b"\n" if out.tell() else b"") + json.dumps(sample).encode() + b"\n")

    def _save_last(self) -> None:
        """Save the last counts of the burn programs: at their end they compare the buffers that are still in memory."""
        if self.work:
            self._append(self._sample(self.done, {}, self.work))

    def _read(self) -> Reading:
        try:
            return self.hardware.read(links=True)
        except Exception as err:
            return {"sensors": {"problem": f"{type(err).__name__}: {err}"[:200]}}

    def _stop(self, reading: Reading, running: dict[str, Supervised]) -> str | None:
        """Return the reason why the burn-in must end early, or None."""
        return self._heat(reading) or self._ended(running)

    def _heat(self, reading: Reading) -> str | None:
        """Return the GPU that is too hot, or whose temperature has been missing for too long. One missed reading is
        no reason: drivers fail for a moment."""
        now = time.monotonic()
        for device, fields in reading.items():
            if fields.get("temperature_c", 0) >= self.rule.stop_celsius:
                return (
                    f"{device}: {fields['temperature_c']:g} deg C, the limit is {self.rule.stop_celsius} "
                    "(pillar benchmark:stress:stop_celsius)"
                )
        for gpu in self.hardware.gpus:
            device = f"cuda:{gpu['index']}"
            if "temperature_c" in reading.get(device, {}):
                self.seen[device] = now
            elif now - self.seen.setdefault(device, now) > self.rule.blind_s:
                return f"{device}: no temperature for {self.rule.blind_s:g} s: {_reason(reading, device)}"
        return None

    def _ended(self, running: dict[str, Supervised]) -> str | None:
        """Return the burn program that has ended or hangs."""
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


def _reason(reading: Reading, device: str) -> str:
    """Return why a device has no temperature."""
    fields = reading.get(device, reading.get("sensors", {}))
    return str(fields.get("problem") or next(iter(fields.get("unread", [])), "NVML returns none"))


def _ignore(_: str) -> None:
    """Ignore messages of the burn program; it reports only through stdout."""


def _line(reading: Reading, work: dict[str, Work]) -> str:
    parts = []
    for device, fields in reading.items():
        values = [f"{fields[key]:.0f} {unit}" for key, unit in SHOWN if key in fields]
        parts.append(f"{device} {' '.join(values) or 'no sensors'}")
    wrong = sum(done["wrong"] for done in work.values())
    return f"{', '.join(parts)}; wrong values: {wrong:.0f}"
