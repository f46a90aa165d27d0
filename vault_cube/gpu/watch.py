"""Events of the GPUs since the last look: XIDs, GPUs that stopped answering, and GPUs that answer again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host
from vault_cube.gpu.read.events import listen, xids
from vault_cube.gpu.read.facts import present, text
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.kernel_log import Follower
from vault_cube.gpu.read.readings import readings

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, Event, Xid

# kinds of problems that are no loss on a machine that never had a driver
NEVER_THERE = ("no library", "no driver")
SAME_S = 60.0
"""Maximum time between NVML's report of an XID and that of the kernel's log."""


class Watch:
    """Reports what is new at each look, in one session.

    XIDs come from NVML and, if it can be read, from the kernel's log: NVML does not report XIDs from before it was
    opened, nor a card that fell off the bus without an XID.
    """

    def __init__(self, session: Session, machine: Host | None = None) -> None:
        self._session, self._machine = session, machine or Host()
        self._log: Follower | None = None
        self._bus = self._on_bus()
        self._most_gpus = 0
        self._silent_parts: dict[str, str] = {}
        self._listening = 0
        self._slots: dict[tuple[int, ...], int] = {}
        self._recent: list[tuple[float, str, str, int]] = []

    def look(self) -> list[Event]:
        """Return the events since the last look. Never raises; the first look registers for XIDs.

        An XID has xid, weight, means and todo, a loss has problem.
        """
        bus = self._on_bus()
        if bus != self._bus:
            # NVML lists the GPUs that existed when it was opened
            self._session.close()
            self._bus = bus
        new: list[Event] = []
        try:
            reported = [self._event(f"GPU {xid.get('index', '?')}", xid) for xid in xids(self._session)]
            before = self._most_gpus
            silent = self._silent()
            self._listen()
            new = self._merged("driver", reported)
            new += [{"tag": "added", "what": f"GPU {index}"} for index in range(before, self._most_gpus) if before]
        except NvmlProblem as err:
            known = bool(self._most_gpus or self._silent_parts)
            silent = {"driver": str(err)} if known or err.problem.kind not in NEVER_THERE else {}
        new += self._merged("log", self._logged())
        before_silent, self._silent_parts = self._silent_parts, silent
        new += [
            {"tag": "lost", "what": what, "problem": why} for what, why in silent.items() if what not in before_silent
        ]
        new += [{"tag": "back", "what": what} for what in before_silent if what not in silent]
        for event in new if self._session.simulated else ():
            event["simulated"] = True
        return new

    def close(self) -> None:
        """End the session."""
        self._session.close()
        if self._log:
            self._log.close()

    def _on_bus(self) -> list[str]:
        return [gpu["bus_id"] for gpu in host.pci_gpus(self._machine)]

    def _listen(self) -> None:
        """Register in the current child; an earlier one may have hung and was killed."""
        if self._session.generation != self._listening:
            listen(self._session)
            for place in self._session.each(_place):
                if "bus_id" in place:
                    self._slots[host.slot(place["bus_id"])] = place["index"]
            self._listening = self._session.generation

    @staticmethod
    def _event(what: str, xid: Xid) -> Event:
        event: Event = present(tag="xid", what=what, **xid)
        return event

    def _logged(self) -> list[Event]:
        if self._log is None:
            self._log = Follower(self._machine)
            return []
        events = []
        for xid in self._log.new():
            index = self._slots.get(host.slot(xid["bus_id"]))
            if index is not None:
                xid["index"] = index
            events.append(self._event(f"GPU ? at {xid['bus_id']}" if index is None else f"GPU {index}", xid))
        return events

    def _merged(self, source: str, events: list[Event]) -> list[Event]:
        """Return the XIDs that the other source has not reported already."""
        now = time.monotonic()
        self._recent = [seen for seen in self._recent if now - seen[0] < SAME_S]
        new = []
        for event in events:
            key = (event["what"], event["xid"])
            twin = next((seen for seen in self._recent if seen[1] != source and seen[2:] == key), None)
            if twin is not None:
                self._recent.remove(twin)
                continue
            self._recent.append((now, source, *key))
            new.append(event)
        return new

    def _silent(self) -> dict[str, str]:
        """Return what does not answer, with the reason."""
        cards = readings(self._session, full=False)
        self._most_gpus = max(self._most_gpus, len(cards))
        silent = {f"GPU {card['index']}": card["problem"] for card in cards if "problem" in card}
        if len(cards) < self._most_gpus:
            silent["count"] = f"the driver lists {len(cards)} GPUs, {self._most_gpus} before"
        return silent


def _place(device: Device) -> Card:
    pci = device.ask("nvmlDeviceGetPciInfo")
    card: Card = present(bus_id=None if pci is None else text(pci.busId))
    return card
