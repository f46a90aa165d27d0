"""All that NVML says of each GPU, now: what gpu.detect shows and gpu.health judges. Named after nvidia-smi -q."""

from __future__ import annotations

import ctypes
from typing import Any

from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import facts, readings

# nvml.h: nvmlComputeMode_t, nvmlTemperatureThresholds_t, nvmlPowerSource_t, nvmlGpuRecoveryAction_t
COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}
THRESHOLDS = {"shutdown_c": 0, "slowdown_c": 1, "memory_max_c": 2, "gpu_max_c": 3}
SUPPLIES = {0: "ac", 1: "battery", 2: "undersized"}
RECOVERY = {
    0: "none", 1: "gpu_reset", 2: "node_reboot", 3: "drain_p2p", 4: "drain_and_reset", 5: "recover_imex_domain",
    6: "bus_reset", 7: "system_reboot",
}  # fmt: skip
RECOVERY_ACTION = 230  # nvml.h: NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
# How long the clocks were held down since the driver was loaded: nvml.h, nvmlPerfPolicyType_t, and as numbered fields,
# in ns, NVML_FI_DEV_PERF_POLICY_… (74 to 79) and NVML_FI_DEV_CLOCKS_EVENT_REASON_… (269 to 271)
POLICIES = {"power": 0, "thermal": 1, "sync_boost": 2, "board_limit": 3, "low_utilisation": 4, "reliability": 5}
POLICY_FIELD = 74
REASON_FIELDS = {"sw_thermal": 269, "hw_thermal": 270, "power_brake": 271}
# nvml.h: NVML_FI_DEV_TEMPERATURE_…_TLIMIT, a threshold as a distance to where the clocks drop
DISTANCES = {"shutdown_c": 193, "slowdown_c": 194, "gpu_max_c": 196}
PEERS = {0: "gpu", 1: "processor", 2: "switch"}  # nvml.h: nvmlIntNvLinkDeviceType_t
LINKS = 36  # nvml.h: NVML_NVLINK_MAX_LINKS
LINK_ERRORS = {"replay": 0, "recovery": 1, "crc_flit": 2, "crc_data": 3}  # nvml.h: nvmlNvLinkErrorCounter_t


def details(session: Session) -> list[dict[str, Any]]:
    """One dict per GPU: identity as `facts` has it, the moment as `readings` has it, and

    minor, part_number, inforom, gsp_firmware, cores, memory_bus_bits, display_active, persistence and compute_mode
    (words), memory_reserved_mib, bar1_mib, ecc_pending, ecc_default, ecc_errors {volatile, aggregate: {corrected,
    uncorrected}}, sram_exceeded, mig_pending, remapped_rows {corrected, uncorrected, pending, failed}, spare_rows {max,
    high, partial, low, none: banks with so many}, retired_pages {single_bit, double_bit, pending}, power
    {limit_default_w, limit_min_w, limit_max_w, supply}, thresholds_c, margin_c, clocks_max_mhz, clocks_chosen_mhz,
    clocks_default_mhz, clock_offsets_mhz, held_down_s {policy: seconds since the driver was loaded}, pcie with
    generation_gpu, numa_node, nvlinks [{link, active, version, peer (gpu or switch), errors}], recovery.

    What a GPU lacks is absent. Raises NvmlProblem.
    """
    return session.each(_detail)


def _detail(device: Device) -> dict[str, Any]:
    found = facts.identity(device)
    now = readings.reading(device, full=True)
    pcie = {**found.pop("pcie", {}), **now.pop("pcie", {})}
    return {
        **found,
        **now,
        **_board(device),
        **_memory(device),
        **_power(device),
        **_clocks(device),
        "pcie": readings.present(**pcie, generation_gpu=device.ask("nvmlDeviceGetGpuMaxPcieLinkGeneration")),
        "nvlinks": nvlinks(device),
    }


def _board(device: Device) -> dict[str, Any]:
    ask = device.ask
    persistence, mode = ask("nvmlDeviceGetPersistenceMode"), ask("nvmlDeviceGetComputeMode")
    display, recovery = ask("nvmlDeviceGetDisplayActive"), readings.field(device, RECOVERY_ACTION)
    firmware = ask("nvmlDeviceGetGspFirmwareVersion")
    # it gives no value: a corrupted inforom is kept in device.unreadable
    ask("nvmlDeviceValidateInforom")
    return readings.present(
        minor=ask("nvmlDeviceGetMinorNumber"),
        part_number=ask("nvmlDeviceGetBoardPartNumber"),
        inforom=ask("nvmlDeviceGetInforomImageVersion"),
        gsp_firmware=None if firmware is None else facts.text(firmware),
        cores=ask("nvmlDeviceGetNumGpuCores"),
        memory_bus_bits=ask("nvmlDeviceGetMemoryBusWidth"),
        display_active=None if display is None else bool(display),
        persistence=facts.switch(persistence),
        compute_mode=None if mode is None else COMPUTE_MODES.get(mode, str(mode)),
        numa_node=ask("nvmlDeviceGetNumaNodeId"),
        recovery=None if recovery is None else RECOVERY.get(int(recovery), str(recovery)),
    )


def _memory(device: Device) -> dict[str, Any]:
    ask = device.ask
    bar, rows = ask("nvmlDeviceGetBAR1MemoryInfo"), ask("nvmlDeviceGetRemappedRows")
    ecc, mig, shipped = ask("nvmlDeviceGetEccMode"), ask("nvmlDeviceGetMigMode"), ask("nvmlDeviceGetDefaultEccMode")
    errors = {
        name: readings.present(
            corrected=ask("nvmlDeviceGetTotalEccErrors", 0, counter),
            uncorrected=ask("nvmlDeviceGetTotalEccErrors", 1, counter),
        )
        for name, counter in (("volatile", 0), ("aggregate", 1))
    }
    pages = {name: ask("nvmlDeviceGetRetiredPages_v2", cause) for name, cause in (("single_bit", 0), ("double_bit", 1))}
    retired = {name: len(found) for name, found in pages.items() if found is not None}
    pending = ask("nvmlDeviceGetRetiredPagesPendingStatus") if retired else None
    reserved = getattr(readings.memory(device), "reserved", None)
    return readings.present(
        memory_reserved_mib=None if reserved is None else reserved >> 20,
        bar1_mib=None if bar is None else bar.bar1Total >> 20,
        ecc_pending=None if ecc is None else facts.switch(ecc[1]),
        ecc_default=None if shipped is None else facts.switch(shipped[0]),
        sram_exceeded=_sram_exceeded(device),
        spare_rows=_spare_rows(device),
        mig_pending=None if mig is None else facts.switch(mig[1]),
        ecc_errors={name: counts for name, counts in errors.items() if counts} or None,
        remapped_rows=None
        if rows is None
        else dict(zip(("corrected", "uncorrected", "pending", "failed"), map(int, rows), strict=True)),
        retired_pages=(retired | readings.present(pending=pending)) or None,
    )


def _sram_exceeded(device: Device) -> bool | None:
    """Whether the SRAM had more uncorrected errors than NVIDIA allows (nvml.h, nvmlEccSramErrorStatus_t)."""
    status = device.nvml.pynvml.c_nvmlEccSramErrorStatus_v1_t()
    # pynvml hands it on as it is
    code = device.ask("nvmlDeviceGetSramEccErrorStatus", ctypes.byref(status))
    return None if code is None else bool(status.bThresholdExceeded)


def _spare_rows(device: Device) -> dict[str, int] | None:
    """Banks of memory by how many spare rows they have left."""
    banks = device.ask("nvmlDeviceGetRowRemapperHistogram")
    return None if banks is None else {name: getattr(banks, name) for name in ("max", "high", "partial", "low", "none")}


def _power(device: Device) -> dict[str, Any]:
    ask = device.ask
    limits, default = (
        ask("nvmlDeviceGetPowerManagementLimitConstraints"),
        ask("nvmlDeviceGetPowerManagementDefaultLimit"),
    )
    supply = ask("nvmlDeviceGetPowerSource")
    power = readings.present(
        limit_default_w=None if default is None else default / 1000,
        limit_min_w=None if limits is None else limits[0] / 1000,
        limit_max_w=None if limits is None else limits[1] / 1000,
        supply=None if supply is None else SUPPLIES.get(supply, str(supply)),
    )
    return readings.present(
        power=power or None,
        thresholds_c=_thresholds(device) or None,
        # newer cards give the distance to their limit, and not where that is
        margin_c=ask("nvmlDeviceGetMarginTemperature"),
        held_down_s=_held_down(device) or None,
    )


def _thresholds(device: Device) -> dict[str, int]:
    """The card's own limits in °C; a card of a newer family has distances in their place."""
    limits = {name: device.ask("nvmlDeviceGetTemperatureThreshold", number) for name, number in THRESHOLDS.items()}
    margin, now = device.ask("nvmlDeviceGetMarginTemperature"), readings.temperature(device)
    if margin is not None and now is not None:
        for name, number in DISTANCES.items():
            distance = readings.field(device, number) if limits[name] is None else None
            limits[name] = limits[name] if distance is None else int(now + margin - distance)
    return readings.present(**limits)


def _held_down(device: Device) -> dict[str, float]:
    held: dict[str, float | None] = {}
    for name, policy in POLICIES.items():
        nanoseconds = readings.field(device, POLICY_FIELD + policy)
        if nanoseconds is None:
            # drivers of CUDA 14 lack it
            violation = device.ask("nvmlDeviceGetViolationStatus", policy)
            nanoseconds = None if violation is None else violation.violationTime
        held[name] = nanoseconds
    held |= {name: readings.field(device, number) for name, number in REASON_FIELDS.items()}
    return {name: nanoseconds / 1e9 for name, nanoseconds in held.items() if nanoseconds is not None}


def _clocks(device: Device) -> dict[str, Any]:
    ask = device.ask
    domains = {name: number for name, number in readings.CLOCKS.items() if name != "video"}

    def each(function: str, chosen: dict[str, int]) -> dict[str, Any] | None:
        return readings.present(**{name: ask(function, number) for name, number in chosen.items()}) or None

    return readings.present(
        clocks_max_mhz=each("nvmlDeviceGetMaxClockInfo", readings.CLOCKS),
        clocks_chosen_mhz=each("nvmlDeviceGetApplicationsClock", domains),
        clocks_default_mhz=each("nvmlDeviceGetDefaultApplicationsClock", domains),
        clock_offsets_mhz=readings.present(
            graphics=ask("nvmlDeviceGetGpcClkVfOffset"), memory=ask("nvmlDeviceGetMemClkVfOffset")
        )
        or None,
    )


def nvlinks(device: Device) -> list[dict[str, Any]]:
    """State, version and errors of each NVLink; empty on a card without any."""
    found = []
    for link in range(LINKS):
        active = device.ask("nvmlDeviceGetNvLinkState", link)
        if active is None:
            break  # links are numbered without a gap
        one: dict[str, Any] = {"link": link, "active": bool(active)}
        if active:
            errors = {
                name: device.ask("nvmlDeviceGetNvLinkErrorCounter", link, number)
                for name, number in LINK_ERRORS.items()
            }
            one |= readings.present(
                version=device.ask("nvmlDeviceGetNvLinkVersion", link),
                peer=PEERS.get(device.ask("nvmlDeviceGetNvLinkRemoteDeviceType", link)),
                errors=readings.present(**errors) or None,
            )
        found.append(one)
    return found
