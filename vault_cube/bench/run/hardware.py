"""The devices that are measured, and their sensors: NVIDIA GPUs through vault_cube.gpu, else the processor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from vault_cube.bench.run.sensors import Processor, Reading
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import events
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.readings import readings
from vault_cube.gpu.read.throttle import SLOW


class Hardware:
    """A machine without a GPU; the one with GPUs is made from it."""

    gpus: tuple[dict[str, Any], ...] = ()
    driver: str | None = None
    simulated = False

    def __init__(self) -> None:
        self._processor = Processor()

    def read(self) -> Reading:
        """One reading of all sensors; the devices are named `cpu`, or `cuda:N`."""
        return self._processor.read()

    def busy(self, above: float) -> list[str]:  # noqa: ARG002 what is above it is the GPUs' matter
        """Why the GPUs are not fit to be measured, a line each. above: the share of time at which one is in use."""
        return []


class Gpus(Hardware):
    """NVIDIA's GPUs."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        found = facts(session)
        self.driver = found.get("driver_version")
        self.simulated = session.simulated
        limits = {one["index"]: one.get("power_limit_w") for one in readings(session)}
        self.gpus = tuple(
            {
                name: value
                for name, value in {**card, "power_limit_w": limits[card["index"]]}.items()
                if name in ("index", "name", "uuid", "memory_mib", "power_limit_w") and value is not None
            }
            for card in found["devices"]
        )
        self._listening = events.listen(session)

    def read(self) -> Reading:
        try:
            found = {f"cuda:{one['index']}": self._one(one) for one in readings(self._session, full=False)}
            heard = events.xids(self._session) if self._listening else []
        except NvmlProblem as err:
            return {"sensors": {"problem": str(err)}}
        if self._listening:
            for name, fields in found.items():
                fields["xids"] = [one["xid"] for one in heard if f"cuda:{one.get('index')}" == name]
        return found

    @staticmethod
    def _one(fields: dict[str, Any]) -> dict[str, Any]:
        """A reading in the words of sensors.py; a function that fails is a problem of the device here."""
        kept = {
            name: value
            for name, value in fields.items()
            if name not in ("index", "kind", "errors", "problem", "throttle_mask", "implausible", "inforom_corrupted")
        }
        failed = [f"GPU {fields['index']}: {name}: {why}" for name, why in fields.get("errors", {}).items()]
        problem = fields.get("problem") or next(iter(failed), None)
        return kept | ({"problem": problem} if problem else {})

    def busy(self, above: float) -> list[str]:
        lines = []
        for number, (device, fields) in enumerate(self.read().items()):
            if fields.get("problem"):
                lines.append(fields["problem"])
            elif fields.get("utilisation", 0) > above:
                lines.append(f"GPU {number} is {fields['utilisation']:.0%} busy")
            slow = [reason for reason in fields.get("throttle", []) if reason in SLOW]
            if slow:
                lines.append(f"{device} is throttled by {', '.join(slow)}")
        return lines


@contextlib.contextmanager
def open_hardware(answer_s: float) -> Iterator[Hardware]:
    """The GPUs where NVML finds some, else the processor. A driver that fails is told by the missing GPUs' verdict.

    answer_s: seconds after which a driver that gave no answer hangs.
    """
    with Session(answer_s) as session:
        yield Hardware() if session.problem() or not session.count() else Gpus(session)
