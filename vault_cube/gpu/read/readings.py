"""What each GPU does now."""

from __future__ import annotations

from typing import Any

from vault_cube.gpu.nvml import plausible
from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import throttle

# nvml.h: nvmlClockType_t
CLOCKS = {"graphics": 0, "sm": 1, "memory": 2, "video": 3}
MEMORY_V2 = 0x2000028  # nvml.h: nvmlMemory_v2
MEMORY_TEMPERATURE = 82  # nvml.h: NVML_FI_DEV_MEMORY_TEMP


def readings(session: Session, *, full: bool = True) -> list[dict[str, Any]]:
    """One dict per GPU, without what it lacks. full: also what changes slowly. Raises NvmlProblem.

    index; utilisation (0 to 1); memory_used_mib; power_w; temperature_c; clock_mhz (SM); throttle (names of reasons),
    throttle_mask; ecc_uncorrected (since the driver was loaded). full adds memory_total_mib, memory_free_mib,
    memory_utilisation (0 to 1), power_limit_w, memory_temperature_c, clocks_mhz, fan_percent (a list, one a fan),
    performance_state, pcie {generation, width, replays}, processes [{pid, memory_mib, kind}], encoder and decoder (0
    to 1), energy_j.
    `problem`, `kind` and `errors` as `Session.each` has them.
    """
    return session.each(reading, full)


def reading(device: Device, full: bool) -> dict[str, Any]:
    """`readings` of one GPU, in the child."""
    ask = device.ask
    found: dict[str, Any] = {}
    rates = ask("nvmlDeviceGetUtilizationRates")
    held = memory(device)
    power, mask = ask("nvmlDeviceGetPowerUsage"), throttle_mask(device)
    if rates is not None and rates.gpu is not None:
        found["utilisation"] = rates.gpu / 100
    if held is not None:
        found["memory_used_mib"] = held.used >> 20
    if power is not None:
        found["power_w"] = power / 1000
    if mask is not None:
        found |= {"throttle": throttle.reasons(mask), "throttle_mask": mask}
    found |= present(
        temperature_c=temperature(device),
        clock_mhz=ask("nvmlDeviceGetClockInfo", CLOCKS["sm"]),
        ecc_uncorrected=ask("nvmlDeviceGetTotalEccErrors", 1, 0),
    )
    if not full:
        return found
    if held is not None:
        found |= {"memory_total_mib": held.total >> 20, "memory_free_mib": held.free >> 20}
    if rates is not None and rates.memory is not None:
        found["memory_utilisation"] = rates.memory / 100
    limit, energy = ask("nvmlDeviceGetEnforcedPowerLimit"), ask("nvmlDeviceGetTotalEnergyConsumption")
    found |= present(
        power_limit_w=None if limit is None else limit / 1000,
        energy_j=None if energy is None else energy / 1000,
        memory_temperature_c=field(device, MEMORY_TEMPERATURE),
        performance_state=ask("nvmlDeviceGetPerformanceState"),
        fan_percent=fans(device) or None,
        clocks_mhz=present(**{name: ask("nvmlDeviceGetClockInfo", number) for name, number in CLOCKS.items()}) or None,
        encoder=_share(ask("nvmlDeviceGetEncoderUtilization")),
        decoder=_share(ask("nvmlDeviceGetDecoderUtilization")),
        pcie=present(
            generation=ask("nvmlDeviceGetCurrPcieLinkGeneration"),
            width=ask("nvmlDeviceGetCurrPcieLinkWidth"),
            replays=ask("nvmlDeviceGetPcieReplayCounter"),
        )
        or None,
        processes=processes(device),
    )
    return found


def memory(device: Device) -> Any:
    """Total, used and, from branch 510 on, reserved by the driver, in bytes: before that, used includes it."""
    found = device.ask("nvmlDeviceGetMemoryInfo", MEMORY_V2)
    if found is None and "nvmlDeviceGetMemoryInfo" not in device.dropped:
        found = device.ask("nvmlDeviceGetMemoryInfo")
    return found


def temperature(device: Device) -> int | None:
    """The GPU's temperature in °C. Drivers of CUDA 14 lack the older function (NVML API, "Deprecation Notices")."""
    celsius = device.first("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature", args=(0,))
    return None if celsius is None else int(celsius)


def throttle_mask(device: Device) -> int | None:
    """The mask of throttle reasons; drivers before 535 know it by its old name only."""
    mask = device.first("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    return None if mask is None else int(mask)


def fans(device: Device) -> list[int]:
    """Speed of each fan in percent of its maximum; empty on a card without its own."""
    count = device.ask("nvmlDeviceGetNumFans")
    if count is None:
        one = device.ask("nvmlDeviceGetFanSpeed")
        return [] if one is None else [int(one)]
    speeds = [device.ask("nvmlDeviceGetFanSpeed_v2", number) for number in range(count)]
    return [int(speed) for speed in speeds if speed is not None]


def processes(device: Device) -> list[dict[str, Any]] | None:
    """Who holds memory of a GPU: pid, memory_mib if the driver gives it, kind compute or graphics.

    None if the driver does not know its processes: that is not the same as none.
    """
    kinds = {kind: device.ask(f"nvmlDeviceGet{kind}RunningProcesses") for kind in ("Compute", "Graphics")}
    if all(held is None for held in kinds.values()):
        return None
    return [
        {"pid": int(entry.pid), "kind": kind.lower()}
        | present(memory_mib=None if entry.usedGpuMemory is None else entry.usedGpuMemory >> 20)
        for kind, held in kinds.items()
        for entry in held or []
    ]


def field(device: Device, number: int, scope: int = 0) -> int | float | None:
    """One of NVML's numbered fields; None where the device lacks it. number: nvml.h, NVML_FI_DEV_…"""
    values = device.ask("nvmlDeviceGetFieldValues", [(number, scope)])
    if values is None or values[0].nvmlReturn != 0:
        return None
    # nvml.h, nvmlValueType_t: which member of the union was set
    member = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
    name = member.get(values[0].valueType)
    value = None if name is None else getattr(values[0].value, name)
    return device.keep(f"field {number}", value, plausible.field(number, value))  # type: ignore[no-any-return]


def _share(answer: Any) -> float | None:
    return None if answer is None else answer[0] / 100


def present(**fields: Any) -> dict[str, Any]:
    """The fields that a device has."""
    return {name: value for name, value in fields.items() if value is not None}
