"""XIDs: those that the driver reports while a session listens, and those in the kernel's log."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from vault_cube.gpu.nvml.device import Nvml
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.plausible import printable
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.xid import meaning

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Xid

XID_EVENT = 0x8  # nvml.h: nvmlEventTypeXidCriticalError

ADDRESS = r"(?P<bus>[0-9a-fA-F]+:[0-9a-fA-F]+:[0-9a-fA-F]+)(?:\.[0-7])?"

# "NVRM: Xid (PCI:0000:01:00): 79, pid=1234, name=python, GPU has fallen off the bus."; with MIG the address goes on,
# "(PCI:0000:01:00 GPU-I:05 GPU-CI:02)". Source: open-gpu-kernel-modules, src/nvidia/src/kernel/gpu/rc/kernel_rc.c
LINE = re.compile(rf"NVRM: Xid \((?:PCI:)?{ADDRESS}(?P<instance>[^)]*)\)[^:]*: (?P<code>\d+)(?:, (?P<rest>.*))?")
# A card that fell off the bus, without an XID: "NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.", and when the
# driver starts, in three lines, "NVRM: The NVIDIA GPU 0000:01:00.0", …, "NVRM: fallen off the bus and is not responding
# to commands." Source: the same, src/nvidia/arch/nvalloc/unix/src/osinit.c and osapi.c
# Older drivers write "NVRM: GPU at 0000:01:00.0 has fallen off the bus."
LOSS = re.compile(rf"NVRM: (?:.*?\b{ADDRESS}.*)?.*fallen off the bus", re.IGNORECASE)
BEGINNING = re.compile(rf"NVRM: The NVIDIA GPU {ADDRESS}")
NO_POWER = re.compile(rf"NVRM: GPU {ADDRESS}: .*necessary power cables")
OFF_BUS, AUXILIARY_POWER = 79, 54
"""The catalog's codes of events that the driver also logs without a code."""


def listen(session: Session) -> bool:
    """Register for XIDs in this session. Returns whether the driver reports them. Raises NvmlProblem.

    Includes GPUs that hung before, unless the registration itself hangs.
    """
    try:
        return session.ask(_listening, ())
    except NvmlProblem as err:
        if err.problem.kind != "hang" or not session.hung:
            raise
        return session.ask(_listening, tuple(session.hung))


def xids(session: Session) -> list[Xid]:
    """Return the XIDs since the last call in this session; the first call registers and returns none.

    Each has xid, weight, means, todo and, if the driver names the GPU, index. Raises NvmlProblem.
    """
    events: list[Xid] = []
    for index, code in session.ask(_reported):
        event = _explained(code)
        if index is not None:
            event["index"] = index
        events.append(event)
    return events


def logged(lines: Iterable[str]) -> list[Xid]:
    """Return the XIDs in lines of the kernel's log, oldest first, with bus_id, message and, with MIG, instance.

    A card that fell off the bus without an XID counts as XID 79, one without its power cables as 54.
    """
    return [entry for _, entry in numbered(lines)]


def numbered(lines: Iterable[str]) -> Iterator[tuple[int, Xid]]:
    """Like `logged`, each with the number of its line."""
    beginning = ""
    lost: set[str] = set()
    # in /dev/kmsg the line breaks of a record are escaped
    parts = ((number, part) for number, line in enumerate(lines) for part in re.split(r"\n|\\x0a", line))
    for number, part in parts:
        if match := LINE.search(part):
            bus, code = match["bus"].lower(), int(match["code"])
            # after the XID, the driver logs the loss again as text
            lost |= {bus} if code == OFF_BUS else set()
            yield number, _entry(bus, code, match["rest"] or "", match["instance"].strip())
        elif match := BEGINNING.search(part):
            beginning = match["bus"].lower()
        elif match := LOSS.search(part):
            bus = (match["bus"] or beginning).lower()
            if bus and bus not in lost:
                yield number, _entry(bus, OFF_BUS, "fallen off the bus, in the log without an XID")
            lost.discard(bus)
        elif match := NO_POWER.search(part):
            yield number, _entry(match["bus"].lower(), AUXILIARY_POWER, "power cables, in the log without an XID")


def _entry(bus: str, code: int, text: str, instance: str = "") -> Xid:
    entry = _explained(code, text) | {"bus_id": bus, "message": printable(text)[:200]}
    if instance:
        entry["instance"] = instance
    return entry


def _explained(code: int, text: str = "") -> Xid:
    known = meaning(code, text)
    return {"xid": code, "weight": known.weight, "means": known.means, "todo": known.todo}


def _listening(nvml: Nvml, without: tuple[int, ...]) -> bool:
    nvml.memory.setdefault("events", _registered(nvml, without))
    return nvml.memory["events"][0] is not None


def _reported(nvml: Nvml) -> list[tuple[int | None, int]]:
    """Return GPU and code of each new XID; runs in the session's child."""
    if "events" not in nvml.memory:
        nvml.memory["events"] = _registered(nvml, ())
        return []
    events, handles = nvml.memory["events"]
    reported: list[tuple[int | None, int]] = []
    # does not wait: returns the queued events one by one, then the error "time-out"
    while events is not None:
        try:
            event = nvml.pynvml.nvmlEventSetWait_v2(events, 0)
        except nvml.pynvml.NVMLError:
            break
        index = next((n for n, handle in enumerate(handles) if _same(handle, event.device)), None)
        reported.append((index, int(event.eventData)))
    return reported


def _registered(nvml: Nvml, without: tuple[int, ...]) -> tuple[Any, list[Any]]:
    events, handles = nvml.ask("nvmlEventSetCreate"), []
    for index in range(nvml.count):
        device = nvml.device(index)
        if index not in without:
            device.begin()
        handles.append(device.handle)
        if events is not None and index not in without:
            device.ask("nvmlDeviceRegisterEvents", XID_EVENT, events)
    return events, handles


def _same(handle: Any, other: Any) -> bool:
    """Return whether two NVML handles, which are pointers, are of the same device."""
    addresses = [getattr(each, "contents", None) and ctypes.addressof(each.contents) for each in (handle, other)]
    return addresses[0] is not None and addresses[0] == addresses[1]
