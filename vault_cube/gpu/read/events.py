"""XIDs: what the driver tells while we listen, and what the kernel's log has of this boot."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from typing import Any

from vault_cube.gpu.nvml.device import Nvml
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.xid import meaning

XID_EVENT = 0x8  # nvml.h: nvmlEventTypeXidCriticalError

# "NVRM: Xid (PCI:0000:01:00): 79, pid=1234, name=python, GPU has fallen off the bus."
LINE = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<bus>[0-9a-fA-F:.]+)\): (?P<code>\d+)(?:, (?P<rest>.*))?")


def listen(session: Session) -> bool:
    """Begin to listen in this session; false where the driver tells nothing. Raises NvmlProblem."""
    return session.ask(_listening)


def xids(session: Session) -> list[dict[str, Any]]:
    """XIDs since the last call in this session; the first call begins to listen and returns none. Raises NvmlProblem.

    Each {index (absent where the driver does not say), xid, weight, means, todo}.
    """
    return [{**one, **_explained(one["xid"])} for one in session.ask(_heard)]


def logged(lines: Iterable[str]) -> list[dict[str, Any]]:
    """XIDs in lines of the kernel's log, oldest first: {bus_id, xid, said, weight, means, todo}."""
    found = []
    for line in lines:
        match = LINE.search(line)
        if match:
            code = int(match["code"])
            found.append(
                {"bus_id": match["bus"].lower(), "xid": code, "said": (match["rest"] or "")[:200], **_explained(code)}
            )
    return found


def _explained(code: int) -> dict[str, str]:
    known = meaning(code)
    return {"weight": known.weight, "means": known.means, "todo": known.todo}


def _listening(nvml: Nvml) -> bool:
    _heard(nvml)
    return nvml.memory["events"][0] is not None


def _heard(nvml: Nvml) -> list[dict[str, Any]]:
    if "events" not in nvml.memory:
        nvml.memory["events"] = _registered(nvml)
        return []
    events, handles = nvml.memory["events"]
    found = []
    # without a time to wait: what is there, then "time-out"
    while events is not None:
        try:
            event = nvml.pynvml.nvmlEventSetWait_v2(events, 0)
        except nvml.pynvml.NVMLError:
            break
        index = next((n for n, handle in enumerate(handles) if _same(handle, event.device)), None)
        found.append(({} if index is None else {"index": index}) | {"xid": int(event.eventData)})
    return found


def _registered(nvml: Nvml) -> tuple[Any, list[Any]]:
    events, handles = nvml.ask("nvmlEventSetCreate"), []
    for index in range(nvml.count):
        device = nvml.device(index)
        device.begin()
        handles.append(device.handle)
        if events is not None:
            device.ask("nvmlDeviceRegisterEvents", XID_EVENT, events)
    return events, handles


def _same(one: Any, other: Any) -> bool:
    """Whether two NVML handles, pointers both, are one device."""
    addresses = [getattr(handle, "contents", None) and ctypes.addressof(handle.contents) for handle in (one, other)]
    return addresses[0] is not None and addresses[0] == addresses[1]
