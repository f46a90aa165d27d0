"""Everything that NVML reports about each GPU, for gpu.detect and gpu.health. Fields are named as in nvidia-smi -q."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import facts, readings
from vault_cube.gpu.read.facts import present

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, NvLink

# nvml.h: nvmlComputeMode_t, nvmlTemperatureThresholds_t, nvmlPowerSource_t, nvmlGpuRecoveryAction_t
COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}
THRESHOLDS = {"shutdown_c": 0, "slowdown_c": 1, "memory_max_c": 2, "gpu_max_c": 3}
SUPPLIES = {0: "ac", 1: "battery", 2: "undersized"}
RECOVERY = {
    0: "none", 1: "gpu_reset", 2: "node_reboot", 3: "drain_p2p", 4: "drain_and_reset", 5: "recover_imex_domain",
    6: "bus_reset", 7: "system_reboot",
}  # fmt: skip
RECOVERY_ACTION = 230  # nvml.h: NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
# Time for which the clocks were held down since the driver was loaded: nvml.h, nvmlPerfPolicyType_t, and as numbered
# fields, in ns, NVML_FI_DEV_PERF_POLICY_… (74 to 79) and NVML_FI_DEV_CLOCKS_EVENT_REASON_… (269 to 271)
POLICIES = {"power": 0, "thermal": 1, "sync_boost": 2, "board_limit": 3, "low_utilisation": 4, "reliability": 5}
POLICY_FIELD = 74
REASON_FIELDS = {"sw_thermal": 269, "hw_thermal": 270, "power_brake": 271}
# nvml.h: NVML_FI_DEV_TEMPERATURE_…_TLIMIT, a threshold as a distance to the temperature at which the clocks drop
DISTANCES = {"shutdown_c": 193, "slowdown_c": 194, "gpu_max_c": 196}
PEERS = {0: "gpu", 1: "processor", 2: "switch"}  # nvml.h: nvmlIntNvLinkDeviceType_t
LINKS = 36  # nvml.h: NVML_NVLINK_MAX_LINKS
LINK_ERRORS = {"replay": 0, "recovery": 1, "crc_flit": 2, "crc_data": 3}  # nvml.h: nvmlNvLinkErrorCounter_t


def details(session: Session) -> list[Card]:
    """Read all fields of all GPUs, with those of `facts` and `readings`. Raises NvmlProblem."""
    return session.each(_detail)


def _detail(device: Device) -> Card:
    identity, now = facts.identity(device), readings.reading(device, full=True)
    pcie = {**identity.get("pcie", {}), **now.get("pcie", {})}
    link = present(**pcie, generation_gpu=device.ask("nvmlDeviceGetGpuMaxPcieLinkGeneration"))
    card = identity | now | _board(device) | _memory(device) | _power(device) | _clocks(device)
    card["pcie"], card["nvlinks"] = link, nvlinks(device)
    return card


def _board(device: Device) -> Card:
    ask = device.ask
    persistence, mode = ask("nvmlDeviceGetPersistenceMode"), ask("nvmlDeviceGetComputeMode")
    display, recovery = ask("nvmlDeviceGetDisplayActive"), readings.field(device, RECOVERY_ACTION)
    firmware = ask("nvmlDeviceGetGspFirmwareVersion")
    # the function returns no value; a corrupted inforom is recorded in device.unreadable
    ask("nvmlDeviceValidateInforom")
    card: Card = present(
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
    return card


def _memory(device: Device) -> Card:
    ask = device.ask
    bar, rows = ask("nvmlDeviceGetBAR1MemoryInfo"), ask("nvmlDeviceGetRemappedRows")
    ecc, mig, shipped = ask("nvmlDeviceGetEccMode"), ask("nvmlDeviceGetMigMode"), ask("nvmlDeviceGetDefaultEccMode")
    errors = {
        name: present(
            corrected=ask("nvmlDeviceGetTotalEccErrors", 0, counter),
            uncorrected=ask("nvmlDeviceGetTotalEccErrors", 1, counter),
        )
        for name, counter in (("volatile", 0), ("aggregate", 1))
    }
    pages = {name: ask("nvmlDeviceGetRetiredPages_v2", cause) for name, cause in (("single_bit", 0), ("double_bit", 1))}
    retired = {name: len(addresses) for name, addresses in pages.items() if addresses is not None}
    pending = ask("nvmlDeviceGetRetiredPagesPendingStatus") if retired else None
    reserved = getattr(facts.memory(device), "reserved", None)
    card: Card = present(
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
        retired_pages=(retired | present(pending=pending)) or None,
    )
    return card


def _sram_exceeded(device: Device) -> bool | None:
    """Return whether the SRAM had more uncorrected errors than NVIDIA allows (nvml.h, nvmlEccSramErrorStatus_t)."""
    status = device.nvml.pynvml.c_nvmlEccSramErrorStatus_v1_t()
    # pynvml passes the structure on unchanged
    code = device.ask("nvmlDeviceGetSramEccErrorStatus", ctypes.byref(status))
    return None if code is None else bool(status.bThresholdExceeded)


def _spare_rows(device: Device) -> dict[str, int] | None:
    """Return the number of memory banks by the spare rows that they have left."""
    banks = device.ask("nvmlDeviceGetRowRemapperHistogram")
    return None if banks is None else {name: getattr(banks, name) for name in ("max", "high", "partial", "low", "none")}


def _power(device: Device) -> Card:
    ask = device.ask
    limits, default = (
        ask("nvmlDeviceGetPowerManagementLimitConstraints"),
        ask("nvmlDeviceGetPowerManagementDefaultLimit"),
    )
    supply = ask("nvmlDeviceGetPowerSource")
    power = present(
        limit_default_w=None if default is None else default / 1000,
        limit_min_w=None if limits is None else limits[0] / 1000,
        limit_max_w=None if limits is None else limits[1] / 1000,
        supply=None if supply is None else SUPPLIES.get(supply, str(supply)),
    )
    card: Card = present(
        power=power or None,
        thresholds_c=_thresholds(device) or None,
        # newer cards return the distance to their limit instead of the limit
        margin_c=ask("nvmlDeviceGetMarginTemperature"),
        held_down_s=_held_down(device) or None,
    )
    return card


def _thresholds(device: Device) -> dict[str, int]:
    """Return the card's own limits in °C; cards of newer families have distances instead."""
    limits = {name: device.ask("nvmlDeviceGetTemperatureThreshold", number) for name, number in THRESHOLDS.items()}
    margin, now = device.ask("nvmlDeviceGetMarginTemperature"), readings.temperature(device)
    if margin is not None and now is not None:
        for name, number in DISTANCES.items():
            distance = readings.field(device, number) if limits[name] is None else None
            limits[name] = limits[name] if distance is None else int(now + margin - distance)
    thresholds: dict[str, int] = present(**limits)
    return thresholds


def _held_down(device: Device) -> dict[str, float]:
    times_ns: dict[str, float | None] = {}
    for name, policy in POLICIES.items():
        nanoseconds = readings.field(device, POLICY_FIELD + policy)
        if nanoseconds is None:
            # drivers of CUDA 14 lack this function, older ones the field
            violation = device.ask("nvmlDeviceGetViolationStatus", policy)
            nanoseconds = None if violation is None else violation.violationTime
        times_ns[name] = nanoseconds
    times_ns |= {name: readings.field(device, number) for name, number in REASON_FIELDS.items()}
    return {name: nanoseconds / 1e9 for name, nanoseconds in times_ns.items() if nanoseconds is not None}


def _clocks(device: Device) -> Card:
    ask = device.ask
    domains = {name: number for name, number in readings.CLOCKS.items() if name != "video"}

    def each(function: str, chosen: dict[str, int]) -> Any:
        return present(**{name: ask(function, number) for name, number in chosen.items()}) or None

    card: Card = present(
        clocks_max_mhz=each("nvmlDeviceGetMaxClockInfo", readings.CLOCKS),
        clocks_chosen_mhz=each("nvmlDeviceGetApplicationsClock", domains),
        clocks_default_mhz=each("nvmlDeviceGetDefaultApplicationsClock", domains),
        clock_offsets_mhz=present(
            graphics=ask("nvmlDeviceGetGpcClkVfOffset"), memory=ask("nvmlDeviceGetMemClkVfOffset")
        )
        or None,
    )
    return card


def nvlinks(device: Device) -> list[NvLink]:
    """Return state, version and errors of each NVLink; empty on a card without any."""
    links: list[NvLink] = []
    for number in range(LINKS):
        active = device.ask("nvmlDeviceGetNvLinkState", number)
        if active is None:
            break  # links are numbered without gaps
        link: NvLink = {"link": number, "active": bool(active)}
        if active:
            errors = {
                name: device.ask("nvmlDeviceGetNvLinkErrorCounter", number, counter)
                for name, counter in LINK_ERRORS.items()
            }
            details: NvLink = present(
                version=device.ask("nvmlDeviceGetNvLinkVersion", number),
                peer=PEERS.get(device.ask("nvmlDeviceGetNvLinkRemoteDeviceType", number)),
                errors=present(**errors) or None,
            )
            link |= details
        links.append(link)
    return links
