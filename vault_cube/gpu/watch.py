"""What happened to the GPUs since the last look: XIDs, GPUs that stopped answering, and those that are back."""

from __future__ import annotations

import time
from typing import Any

from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host
from vault_cube.gpu.read.events import listen, xids
from vault_cube.gpu.read.facts import text
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.kernel_log import Follower
from vault_cube.gpu.read.readings import present, readings

# a machine that never had a driver has lost nothing
NEVER_THERE = ("no library", "no driver")
SAME_S = 60.0
"""NVML and the kernel's log report the same XID within so many seconds."""


class Watch:
    """Looks again and again in one session, and reports only what is new.

    XIDs come from NVML and, if it can be read, from the kernel's log: NVML forgets those from before it was opened, and
    has none of a card that fell off the bus without one.
    """

    def __init__(self, session: Session, machine: Host | None = None) -> None:
        self._session, self._machine = session, machine or Host()
        self._log: Follower | None = None
        self._bus = self._on_bus()
        self._most = 0
        self._wrong: dict[str, str] = {}
        self._listening = 0
        self._slots: dict[tuple[int, ...], int] = {}
        self._recent: list[tuple[float, str, str, int]] = []

    def look(self) -> list[dict[str, Any]]:
        """Events since the last look, never an exception; the first look begins to listen.

        Each {tag: xid, lost, back or added, what: `GPU 2`, `driver` or `count`, …}: an xid has xid, weight, means and
        todo, a loss has problem. `simulated` if a test's library answered.
        """
        bus = self._on_bus()
        if bus != self._bus:
            # NVML lists the GPUs of the moment when it was opened
            self._session.close()
            self._bus = bus
        new: list[dict[str, Any]] = []
        try:
            heard = [{"what": f"GPU {one.get('index', '?')}", **one} for one in xids(self._session)]
            before = self._most
            wrong = self._silent()
            self._listen()
            new = self._merged("driver", heard)
            new += [{"tag": "added", "what": f"GPU {index}"} for index in range(before, self._most) if before]
        except NvmlProblem as err:
            known = bool(self._most or self._wrong)
            wrong = {"driver": str(err)} if known or err.problem.kind not in NEVER_THERE else {}
        new += self._merged("log", self._logged())
        before_wrong, self._wrong = self._wrong, wrong
        new += [
            {"tag": "lost", "what": what, "problem": why} for what, why in wrong.items() if what not in before_wrong
        ]
        new += [{"tag": "back", "what": what} for what in before_wrong if what not in wrong]
        return [{**one, "simulated": True} for one in new] if self._session.simulated else new

    def close(self) -> None:
        """End the session."""
        self._session.close()
        if self._log:
            self._log.close()

    def _on_bus(self) -> list[str]:
        return [gpu["bus_id"] for gpu in host.pci_gpus(self._machine)]

    def _listen(self) -> None:
        """Listen in the child that asks now: the one before may have hung and was killed."""
        if self._session.generation != self._listening:
            listen(self._session)
            for place in self._session.each(_place):
                if "bus_id" in place:
                    self._slots[host.slot(place["bus_id"])] = place["index"]
            self._listening = self._session.generation

    def _logged(self) -> list[dict[str, Any]]:
        if self._log is None:
            self._log = Follower(self._machine)
            return []
        entries = []
        for one in self._log.new():
            index = self._slots.get(host.slot(one["bus_id"]))
            known = {"what": f"GPU ? at {one['bus_id']}"} if index is None else {"what": f"GPU {index}", "index": index}
            entries.append({**known, **one})
        return entries

    def _merged(self, source: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The XIDs that the other source has not reported already."""
        now = time.monotonic()
        self._recent = [seen for seen in self._recent if now - seen[0] < SAME_S]
        new = []
        for one in entries:
            twin = next((s for s in self._recent if s[1] != source and s[2:] == (one["what"], one["xid"])), None)
            if twin is not None:
                self._recent.remove(twin)
                continue
            self._recent.append((now, source, one["what"], one["xid"]))
            new.append({"tag": "xid", **one})
        return new

    def _silent(self) -> dict[str, str]:
        now = readings(self._session, full=False)
        self._most = max(self._most, len(now))
        wrong = {f"GPU {one['index']}": one["problem"] for one in now if "problem" in one}
        if len(now) < self._most:
            wrong["count"] = f"the driver lists {len(now)} GPUs, and {self._most} before"
        return wrong


def _place(device: Device) -> dict[str, Any]:
    pci = device.ask("nvmlDeviceGetPciInfo")
    return present(bus_id=None if pci is None else text(pci.busId))
