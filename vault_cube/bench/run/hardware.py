"""The measured devices and their sensors: NVIDIA GPUs through vault_cube.gpu, or the CPU if there are none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from vault_cube.bench.fields import Gpu, LoggedXid, Reading, Sensors
from vault_cube.bench.run.sensors import Processor
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import detail, events, host, kernel_log
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.readings import readings
from vault_cube.gpu.read.throttle import SLOW

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card

IDLE_STATE = 8
"""Lowest performance state of a GPU at rest (nvml.h, nvmlPstates_t). A utilisation that is stuck at 100 % is known of
GPUs in this state without any process; it does not disturb a measurement."""
FIELDS = (
    "utilisation", "memory_used_mib", "power_w", "temperature_c", "clock_mhz", "throttle", "ecc_uncorrected",
)  # fmt: skip


class Hardware:
    """A machine without a GPU; base class of `Gpus`."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    simulated = False

    def __init__(self) -> None:
        self._processor = Processor()

    def read(self, *, links: bool = False) -> Reading:  # noqa: ARG002 used by Gpus.read
        """Return one reading of all sensors, by device: `cpu`, or `cuda:N`. links: also the PCIe links' errors."""
        return self._processor.read()

    def busy(self, above: float, memory_mib: int) -> list[str]:  # noqa: ARG002 used by Gpus.busy
        """Return the reasons why the GPUs are not fit for a measurement, one line each.

        above: share of time, 0 to 1, above which a GPU counts as in use. memory_mib: memory in use above which it does.
        """
        return []

    def earlier_xids(self, since: float) -> dict[str, list[LoggedXid]]:  # noqa: ARG002 used by Gpus.earlier_xids
        """Return the XIDs in the kernel's log of this boot and the one before, by device.

        since: seconds since 1970; older ones are left out.
        """
        return {}


class Gpus(Hardware):
    """A machine with NVIDIA GPUs."""

    def __init__(self, session: Session, machine: Host) -> None:
        super().__init__()
        self._session, self._machine = session, machine
        self.driver = facts(session, machine).get("driver_version")
        self.simulated = session.simulated
        self.gpus = tuple(_identity(card, machine) for card in detail.details(session))
        self._listening = events.listen(session)

    def read(self, *, links: bool = False) -> Reading:
        """Return one reading of all GPUs; an NVML error that concerns all of them becomes `problem` of `sensors`."""
        try:
            reading = {f"cuda:{card['index']}": self._fields(card) for card in readings(self._session, full=links)}
            recent = events.xids(self._session) if self._listening else []
        except NvmlProblem as err:
            return {"sensors": {"problem": str(err)}}
        if self._listening:
            for name, fields in reading.items():
                fields["xids"] = [event["xid"] for event in recent if f"cuda:{event.get('index')}" == name]
            # the driver does not always name the GPU of an event
            if unnamed := [event["xid"] for event in recent if "index" not in event]:
                reading["box"] = {"xids": unnamed}
        return reading

    def _fields(self, card: Card) -> Sensors:
        """Return the sensors of a card. A function that failed leaves its field out, and is `unread`."""
        known = cast("Sensors", {name: value for name, value in card.items() if name in FIELDS})
        if "replays" in card.get("pcie", {}):
            known["pcie_replays"] = card["pcie"]["replays"]
        corrected = self._corrected(card["index"]) if "pcie" in card else None
        if corrected is not None:
            known["pcie_corrected"] = corrected
        if card.get("errors"):
            known["unread"] = [f"{name}: {why}" for name, why in card["errors"].items()]
        if card.get("problem"):
            known["problem"] = card["problem"]
        return known

    def _corrected(self, index: int) -> int | None:
        bus_id = next((gpu.get("bus_id") for gpu in self.gpus if gpu["index"] == index), None)
        return host.aer(self._machine, bus_id).get("correctable") if bus_id else None

    def busy(self, above: float, memory_mib: int) -> list[str]:
        try:
            cards = readings(self._session)
        except NvmlProblem as err:
            return [str(err)]
        lines = []
        for card in cards:
            name = f"GPU {card['index']}"
            if card.get("problem"):
                lines.append(card["problem"])
                continue
            asleep = card.get("processes") == [] and card.get("performance_state", 0) >= IDLE_STATE
            stuck = asleep and card.get("utilisation") == 1.0
            if card.get("utilisation", 0) > above and not stuck:
                lines.append(f"{name} is {card['utilisation']:.0%} busy")
            if card.get("memory_used_mib", 0) > memory_mib:
                pids = ", ".join(str(process["pid"]) for process in card.get("processes", []))
                holders = f" by process {pids}" if pids else ""
                lines.append(f"{name}: {card['memory_used_mib']} MiB of its memory are in use{holders}")
            slow = [reason for reason in card.get("throttle", []) if reason in SLOW]
            if slow:
                lines.append(f"{name} is throttled by {', '.join(slow)}")
        return lines

    def earlier_xids(self, since: float) -> dict[str, list[LoggedXid]]:
        logged = [event for boot in (-1, 0) for event in kernel_log.xids(kernel_log.begin(self._machine, boot)) or []]
        devices = {host.slot(gpu["bus_id"]): f"cuda:{gpu['index']}" for gpu in self.gpus if "bus_id" in gpu}
        xids: dict[str, list[LoggedXid]] = {}
        for event in logged:
            if event["at"] >= since:
                device = devices.get(host.slot(event["bus_id"]), "box")
                xids.setdefault(device, []).append({"xid": event["xid"], "time": event["at"]})
        return xids


def _identity(card: Card, machine: Host) -> Gpu:
    bus_id = card.get("pcie", {}).get("bus_id")
    fields = {
        **{
            name: value
            for name, value in card.items()
            if name in ("index", "name", "uuid", "memory_mib", "power_limit_w")
        },
        "clock_max_mhz": card.get("clocks_max_mhz", {}).get("sm"),
        "bus_id": bus_id,
        "cpus": host.cpus(machine, bus_id) if bus_id else None,
    }
    return cast("Gpu", {name: value for name, value in fields.items() if value is not None})


@contextlib.contextmanager
def open_hardware(answer_s: float, machine: Host | None = None) -> Iterator[Hardware]:
    """Open the GPUs if NVML reports any, else the CPU; the context manager closes NVML.

    A broken driver is no error here: the verdict on the missing GPUs reports it. answer_s: seconds without an answer
    from the driver after which it counts as hung. machine: where the kernel's files are read; None: this machine.
    """
    with Session(answer_s) as session:
        yield Hardware() if session.problem() or not session.count() else Gpus(session, machine or Host())
