"""The devices that are measured, and their sensors: NVIDIA GPUs through NVML, else the processor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from ctypes import addressof
from typing import Any

import pynvml

from vault_cube.bench.sensors import Processor, Reading

# nvml.h, nvmlClocksEventReasons: bits of a mask, named as nvidia-smi names them
REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
THERMAL = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")

LACKING = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
}
"""A device that answers so lacks the field; any other error is a problem of the device."""


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
    """NVIDIA's GPUs, as NVML has them."""

    def __init__(self) -> None:
        super().__init__()
        self._handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        self.driver = pynvml.nvmlSystemGetDriverVersion()
        # a test's library says so by a symbol that NVIDIA's has not
        self.simulated = hasattr(pynvml.nvmlLib, "vault_cube_simulated")
        self.gpus = tuple(self._facts(number, handle) for number, handle in enumerate(self._handles))
        self._xids: dict[str, list[int]] = {}
        self._events = None
        with contextlib.suppress(pynvml.NVMLError):
            self._events = pynvml.nvmlEventSetCreate()
            for handle in self._handles:
                pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, self._events)

    @staticmethod
    def _facts(number: int, handle: Any) -> dict[str, Any]:
        facts: dict[str, Any] = {"index": number}
        for field, ask in (
            ("name", pynvml.nvmlDeviceGetName),
            ("uuid", pynvml.nvmlDeviceGetUUID),
            ("memory_mib", lambda one: pynvml.nvmlDeviceGetMemoryInfo(one).total >> 20),
            ("power_limit_w", lambda one: pynvml.nvmlDeviceGetEnforcedPowerLimit(one) / 1000),
        ):
            with contextlib.suppress(pynvml.NVMLError):
                facts[field] = ask(handle)
        return facts

    def read(self) -> Reading:
        self._hear()
        return {f"cuda:{number}": self._one(number, handle) for number, handle in enumerate(self._handles)}

    def _one(self, number: int, handle: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        asked: dict[str, Callable[[], Any]] = {
            "utilisation": lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "memory_used_mib": lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used >> 20,
            "power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "clock_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "throttle": lambda: reasons(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)),
            "ecc_uncorrected": lambda: pynvml.nvmlDeviceGetTotalEccErrors(
                handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
            ),
        }
        for field, ask in asked.items():
            try:
                fields[field] = ask()
            except pynvml.NVMLError as err:
                if err.value not in LACKING:
                    fields["problem"] = f"GPU {number}: {err}"
                    break
        if self._events is not None:
            fields["xids"] = self._xids.pop(f"cuda:{number}", [])
        return fields

    def _hear(self) -> None:
        """Collect the XIDs that the driver told since the last reading."""
        while self._events is not None:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError:
                return  # a time-out: there is none
            number = next((n for n, one in enumerate(self._handles) if _same(one, event.device)), None)
            self._xids.setdefault(f"cuda:{number}", []).append(int(event.eventData))

    def busy(self, above: float) -> list[str]:
        lines = []
        for number, (device, fields) in enumerate(self.read().items()):
            if fields.get("problem"):
                lines.append(fields["problem"])
            elif fields.get("utilisation", 0) > above:
                lines.append(f"GPU {number} is {fields['utilisation']:.0%} busy")
            slow = [reason for reason in fields.get("throttle", []) if reason in THERMAL]
            if slow:
                lines.append(f"{device} is throttled by {', '.join(slow)}")
        return lines


def _same(one: Any, other: Any) -> bool:
    """Whether two NVML handles, pointers both, are one device."""
    addresses = [getattr(handle, "contents", None) and addressof(handle.contents) for handle in (one, other)]
    return addresses[0] is not None and addresses[0] == addresses[1]


def reasons(mask: int) -> list[str]:
    """The throttle reasons of NVML's mask; a bit that has no name yet keeps its number."""
    named = [name for bit, name in REASONS.items() if mask & bit]
    unknown = mask & ~sum(REASONS)
    return named + ([f"{unknown:#x}"] if unknown else [])


@contextlib.contextmanager
def open_hardware() -> Iterator[Hardware]:
    """The GPUs where NVML finds some, else the processor. A driver that fails is told by the missing GPUs' verdict."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield Hardware()
        return
    try:
        found: Hardware = Gpus() if pynvml.nvmlDeviceGetCount() else Hardware()
    except pynvml.NVMLError:
        found = Hardware()
    try:
        yield found
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
