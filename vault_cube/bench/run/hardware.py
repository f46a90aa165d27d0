"""The measured devices and their sensors: NVIDIA GPUs through vault_cube.gpu, or the CPU if there are none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vault_cube.bench.run.sensors import Processor, Reading
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import events
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.readings import readings
from vault_cube.gpu.read.throttle import SLOW

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card


class Hardware:
    """A machine without a GPU; base class of `Gpus`."""

    gpus: tuple[dict[str, Any], ...] = ()
    driver: str | None = None
    simulated = False

    def __init__(self) -> None:
        self._processor = Processor()

    def read(self) -> Reading:
        """Return one reading of all sensors, by device: `cpu`, or `cuda:N`."""
        return self._processor.read()

    def busy(self, above: float) -> list[str]:  # noqa: ARG002 used by Gpus.busy
        """Return the reasons why the GPUs are not fit for a measurement, one line each.

        above: share of time, 0 to 1, above which a GPU counts as in use.
        """
        return []


class Gpus(Hardware):
    """A machine with NVIDIA GPUs."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        driver_facts = facts(session)
        self.driver = driver_facts.get("driver_version")
        self.simulated = session.simulated
        limits = {reading["index"]: reading.get("power_limit_w") for reading in readings(session)}
        self.gpus = tuple(
            {
                name: value
                for name, value in {**card, "power_limit_w": limits[card["index"]]}.items()
                if name in ("index", "name", "uuid", "memory_mib", "power_limit_w") and value is not None
            }
            for card in driver_facts["devices"]
        )
        self._listening = events.listen(session)

    def read(self) -> Reading:
        """Return one reading of all GPUs; an NVML error that concerns all of them becomes `problem` of `sensors`."""
        try:
            reading = {f"cuda:{card['index']}": self._fields(card) for card in readings(self._session, full=False)}
            recent = events.xids(self._session) if self._listening else []
        except NvmlProblem as err:
            return {"sensors": {"problem": str(err)}}
        if self._listening:
            for name, fields in reading.items():
                fields["xids"] = [event["xid"] for event in recent if f"cuda:{event.get('index')}" == name]
        return reading

    @staticmethod
    def _fields(card: Card) -> dict[str, Any]:
        """Return the reading of a card with the fields that sensors.py defines; an NVML error becomes `problem`."""
        known = {
            name: value
            for name, value in card.items()
            if name not in ("index", "kind", "errors", "problem", "throttle_mask", "implausible", "inforom_corrupted")
        }
        failed = [f"GPU {card['index']}: {name}: {why}" for name, why in card.get("errors", {}).items()]
        problem = card.get("problem") or next(iter(failed), None)
        return known | ({"problem": problem} if problem else {})

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
    """Open the GPUs if NVML reports any, else the CPU; the context manager closes NVML.

    A broken driver is no error here: the verdict on the missing GPUs reports it. answer_s: seconds without an answer
    from the driver after which it counts as hung.
    """
    with Session(answer_s) as session:
        yield Hardware() if session.problem() or not session.count() else Gpus(session)
