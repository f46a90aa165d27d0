"""What each GPU does now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vault_cube.gpu.nvml import plausible
from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import throttle
from vault_cube.gpu.read.facts import memory, present

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, Process

# nvml.h: nvmlClockType_t
CLOCKS = {"graphics": 0, "sm": 1, "memory": 2, "video": 3}
MEMORY_TEMPERATURE = 82  # nvml.h: NVML_FI_DEV_MEMORY_TEMP


def readings(session: Session, *, full: bool = True) -> list[Card]:
    """Read all GPUs. full: also what changes slowly. Raises NvmlProblem.

    Each card has utilisation, memory_used_mib, power_w, temperature_c, clock_mhz (SM), throttle, throttle_mask and
    ecc_uncorrected. full adds memory_total_mib, memory_free_mib, memory_utilisation, power_limit_w,
    memory_temperature_c, clocks_mhz, fan_percent, performance_state, pcie {generation, width, replays}, processes,
    encoder, decoder and energy_j.
    """
    return session.each(reading, full)


def reading(device: Device, full: bool) -> Card:
    """Read one GPU; runs in the session's child."""
    ask = device.ask
    rates, used = ask("nvmlDeviceGetUtilizationRates"), memory(device)
    power, mask = ask("nvmlDeviceGetPowerUsage"), throttle_mask(device)
    card: Card = present(
        utilisation=None if rates is None else _share(rates.gpu),
        memory_used_mib=None if used is None else used.used >> 20,
        power_w=None if power is None else power / 1000,
        throttle=None if mask is None else throttle.reasons(mask),
        throttle_mask=mask,
        temperature_c=temperature(device),
        clock_mhz=ask("nvmlDeviceGetClockInfo", CLOCKS["sm"]),
        ecc_uncorrected=ask("nvmlDeviceGetTotalEccErrors", 1, 0),
    )
    if full:
        slow: Card = _slow(device, rates, used)
        card |= slow
    return card


def _slow(device: Device, rates: Any, used: Any) -> Card:
    """Read what changes slowly. rates, used: answers for utilisation and memory."""
    ask = device.ask
    limit, energy = ask("nvmlDeviceGetEnforcedPowerLimit"), ask("nvmlDeviceGetTotalEnergyConsumption")
    encoder, decoder = ask("nvmlDeviceGetEncoderUtilization"), ask("nvmlDeviceGetDecoderUtilization")
    card: Card = present(
        memory_total_mib=None if used is None else used.total >> 20,
        memory_free_mib=None if used is None else used.free >> 20,
        memory_utilisation=None if rates is None else _share(rates.memory),
        power_limit_w=None if limit is None else limit / 1000,
        energy_j=None if energy is None else energy / 1000,
        memory_temperature_c=field(device, MEMORY_TEMPERATURE),
        performance_state=ask("nvmlDeviceGetPerformanceState"),
        fan_percent=fans(device) or None,
        clocks_mhz=present(**{name: ask("nvmlDeviceGetClockInfo", number) for name, number in CLOCKS.items()}) or None,
        encoder=None if encoder is None else _share(encoder[0]),
        decoder=None if decoder is None else _share(decoder[0]),
        pcie=present(
            generation=ask("nvmlDeviceGetCurrPcieLinkGeneration"),
            width=ask("nvmlDeviceGetCurrPcieLinkWidth"),
            replays=ask("nvmlDeviceGetPcieReplayCounter"),
        )
        or None,
        processes=processes(device),
    )
    return card


def temperature(device: Device) -> int | None:
    """Read the temperature in °C. Drivers of CUDA 14 lack the older function (NVML API, "Deprecation Notices")."""
    celsius = device.first("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature", args=(0,))
    return None if celsius is None else int(celsius)


def throttle_mask(device: Device) -> int | None:
    """Read the mask of throttle reasons; drivers before 535 have it only under its old name."""
    mask = device.first("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    return None if mask is None else int(mask)


def fans(device: Device) -> list[int]:
    """Read the speed of each fan in percent of its maximum; empty on a card without fans."""
    count = device.ask("nvmlDeviceGetNumFans")
    if count is None:
        speed = device.ask("nvmlDeviceGetFanSpeed")
        return [] if speed is None else [int(speed)]
    speeds = [device.ask("nvmlDeviceGetFanSpeed_v2", number) for number in range(count)]
    return [int(speed) for speed in speeds if speed is not None]


def processes(device: Device) -> list[Process] | None:
    """List the processes that hold memory of a GPU. None if the driver does not list them, which does not mean none."""
    kinds = {kind: device.ask(f"nvmlDeviceGet{kind}RunningProcesses") for kind in ("Compute", "Graphics")}
    if all(entries is None for entries in kinds.values()):
        return None
    return [_process(entry, kind.lower()) for kind, entries in kinds.items() for entry in entries or []]


def _process(entry: Any, kind: str) -> Process:
    bytes_used = entry.usedGpuMemory
    process: Process = {"pid": int(entry.pid), "kind": kind}
    if bytes_used is not None:
        process["memory_mib"] = bytes_used >> 20
    return process


def field(device: Device, number: int, scope: int = 0) -> int | float | None:
    """Read one of NVML's numbered fields; None if the device lacks it. number: nvml.h, NVML_FI_DEV_…"""
    values = device.ask("nvmlDeviceGetFieldValues", [(number, scope)])
    if values is None or values[0].nvmlReturn != 0:
        return None
    # nvml.h, nvmlValueType_t: the member of the union that is set
    member = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
    name = member.get(values[0].valueType)
    value = None if name is None else getattr(values[0].value, name)
    return device.keep(f"field {number}", value, plausible.field(number, value))  # type: ignore[no-any-return]


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
