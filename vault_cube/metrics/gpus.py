"""The GPUs' readings as Prometheus metrics.

What NVIDIA's dcgm-exporter has a name for has that name, unit and labels here, so that boards and rules made for it
work (github.com/NVIDIA/dcgm-exporter, etc/default-counters.csv; DCGM's field identifiers, dcgm_fields.h).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host, kernel_log, throttle
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.readings import readings
from vault_cube.gpu.read.xid_memory import XidMemory
from vault_cube.metrics.exposition import Family


def families(
    session: Session, machine: Host | None = None, *, beside_dcgm: bool = False, memory: Path | None = None
) -> list[Family]:
    """All metrics; a driver that does not answer is one of them, not an error.

    machine: whose kernel's log is read. beside_dcgm: without what dcgm-exporter has. memory: a file that keeps this
    boot's XIDs, so that only the end of the log has to be read.
    """
    machine = machine or Host()
    kept = XidMemory(machine, memory) if memory else None
    log = kept.begin() if kept else kernel_log.begin(machine)
    found = facts(session, machine)
    now: list[dict[str, Any]] = []
    if found["devices"]:
        try:
            now = readings(session)
        except NvmlProblem as err:
            found |= {"problem": str(err), "problem_kind": err.problem.kind}
    labels = {one["index"]: _labels(one) for one in found["devices"]}
    read = [(labels[one["index"]], one) for one in now if one["index"] in labels]
    xids = kept.xids(log) if kept else kernel_log.xids(log)
    # a log that cannot be read has neither XIDs nor none: their metrics are absent then
    logged = None if xids is None else _on_gpus(xids, found["devices"])
    own = [*_state(session, found, labels, read), *_throttled(read), _xid_times(logged or [], labels)]
    own += [_log(logged)] if labels else []
    return own if beside_dcgm else [*_dcgm(read), _last_xid(logged, labels), *own]


def _labels(device: Mapping[str, Any]) -> dict[str, str]:
    """dcgm-exporter's labels of a GPU."""
    return {
        "gpu": str(device["index"]),
        "UUID": str(device.get("uuid", "")),
        "pci_bus_id": str(device.get("pcie", {}).get("bus_id", "")),
        "device": f"nvidia{device['index']}",
        "modelName": str(device.get("name", "")),
    }


def _dcgm(read: list[tuple[dict[str, str], dict[str, Any]]]) -> list[Family]:
    """The metrics that dcgm-exporter has, too."""
    asked: tuple[tuple[str, Literal["gauge", "counter"], str, Callable[[dict[str, Any]], float | None]], ...] = (
        ("GPU_TEMP", "gauge", "GPU temperature (in C).", lambda one: one.get("temperature_c")),
        ("MEMORY_TEMP", "gauge", "Memory temperature (in C).", lambda one: one.get("memory_temperature_c")),
        ("POWER_USAGE", "gauge", "Power draw (in W).", lambda one: one.get("power_w")),
        ("ENFORCED_POWER_LIMIT", "gauge", "Power limit in force (in W).", lambda one: one.get("power_limit_w")),
        ("TOTAL_ENERGY_CONSUMPTION", "counter", "Energy since the driver was loaded (in mJ).",
         lambda one: _times(one.get("energy_j"), 1000)),
        ("SM_CLOCK", "gauge", "SM clock (in MHz).", lambda one: one.get("clocks_mhz", {}).get("sm")),
        ("MEM_CLOCK", "gauge", "Memory clock (in MHz).", lambda one: one.get("clocks_mhz", {}).get("memory")),
        ("GPU_UTIL", "gauge", "Time in which a kernel ran (in %).", lambda one: _times(one.get("utilisation"), 100)),
        ("MEM_COPY_UTIL", "gauge", "Time in which memory was read or written (in %).",
         lambda one: _times(one.get("memory_utilisation"), 100)),
        ("ENC_UTIL", "gauge", "Encoder utilisation (in %).", lambda one: _times(one.get("encoder"), 100)),
        ("DEC_UTIL", "gauge", "Decoder utilisation (in %).", lambda one: _times(one.get("decoder"), 100)),
        ("FB_USED", "gauge", "Memory in use (in MiB).", lambda one: one.get("memory_used_mib")),
        ("FB_FREE", "gauge", "Memory that is free (in MiB).",
         lambda one: one.get("memory_free_mib")),
        ("FAN_SPEED", "gauge", "Fan speed, the fastest of the card (in %).",
         lambda one: max(one.get("fan_percent") or [None])),
        ("PCIE_LINK_GEN", "gauge", "PCIe generation now; idle cards drop.",
         lambda one: one.get("pcie", {}).get("generation")),
        ("PCIE_LINK_WIDTH", "gauge", "PCIe lanes now.", lambda one: one.get("pcie", {}).get("width")),
        ("PCIE_REPLAY_COUNTER", "counter", "PCIe packets sent again.", lambda one: one.get("pcie", {}).get("replays")),
        ("CLOCKS_EVENT_REASONS", "gauge", "Throttle reasons (bitmask).", lambda one: one.get("throttle_mask")),
        ("ECC_DBE_VOL_TOTAL", "counter", "Uncorrected memory errors since the driver was loaded.",
         lambda one: one.get("ecc_uncorrected")),
    )  # fmt: skip
    made = []
    for name, kind, says, get in asked:
        family = Family(f"DCGM_FI_DEV_{name}", says, kind)
        for labels, one in read:
            family.add(labels, get(one))
        made.append(family)
    return made


def _state(
    session: Session,
    found: Mapping[str, Any],
    labels: Mapping[int, dict[str, str]],
    read: list[tuple[dict[str, str], dict[str, Any]]],
) -> list[Family]:
    """Whether driver and GPUs answer, and what they are."""
    answers = Family("vault_cube_gpu_answers", "1 when the GPU answers, 0 when it is listed and does not.")
    processes = Family("vault_cube_gpu_processes", "Processes that hold memory of the GPU.")
    lost = {one["index"] for one in found["devices"] if "problem" in one}
    lost |= {int(one["gpu"]) for one, said in read if "problem" in said}
    for index, one in labels.items():
        answers.add(one, int(index not in lost))
    for one, said in read:
        for kind in ("compute", "graphics"):
            if "processes" in said:
                processes.add({**one, "kind": kind}, sum(process["kind"] == kind for process in said["processes"]))
    count = Family("vault_cube_gpus", "GPUs that answer.")
    count.add({}, len(set(labels) - lost))
    problem = Family("vault_cube_gpu_problem", "1 while driver or a GPU does not answer; kind says why.")
    problem.add({"kind": str(found.get("problem_kind", ""))}, int("problem" in found or bool(lost)))
    driver = Family("vault_cube_gpu_driver_info", "Always 1; the driver's versions.")
    if "driver_version" in found:
        names = ("driver_version", "cuda_driver_version", "kernel_module")
        driver.add({name: str(found.get(name, "")) for name in names}, 1)
    simulated = Family("vault_cube_gpu_simulated", "1 when a test's library answered, not NVIDIA's.")
    simulated.add({}, int(session.simulated))
    return [answers, processes, count, problem, driver, simulated]


def _throttled(read: list[tuple[dict[str, str], dict[str, Any]]]) -> list[Family]:
    """One series per reason, because PromQL cannot look at bits."""
    family = Family("vault_cube_gpu_throttled", "1 while the reason holds; weight: idle, chosen, power, heat or fault.")
    for labels, one in read:
        if "throttle_mask" not in one:
            continue
        # a bit that has no name yet is a series, too
        for reason in dict.fromkeys((*throttle.WEIGHT, *one["throttle"])):
            weight = throttle.WEIGHT.get(reason, "unknown")
            family.add({**labels, "reason": reason, "weight": weight}, int(reason in one["throttle"]))
    return [family]


def _log(logged: list[dict[str, Any]] | None) -> Family:
    family = Family("vault_cube_gpu_log_readable", "1 when the kernel's log was read for XIDs, 0 when it cannot be.")
    family.add({}, int(logged is not None))
    return family


def _on_gpus(xids: Iterable[Mapping[str, Any]], devices: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The log's XIDs, oldest first, each with the `gpu` of its bus; `?` for one that is gone."""
    indices = {host.slot(one["pcie"]["bus_id"]): one["index"] for one in devices if "bus_id" in one.get("pcie", {})}
    return [{**one, "gpu": indices.get(host.slot(one["bus_id"]), "?")} for one in xids]


def _xid_times(logged: Iterable[Mapping[str, Any]], labels: Mapping[int, dict[str, str]]) -> Family:
    """When each XID was last seen."""
    family = Family("vault_cube_gpu_xid_timestamp_seconds", "When this boot's log last had the XID, since 1970.")
    last = {(one["gpu"], one["xid"], one["weight"], one["bus_id"]): one["at"] for one in logged}
    for (gpu, xid, weight, bus_id), at in last.items():
        own = labels.get(gpu, {"gpu": "?", "pci_bus_id": bus_id})
        family.add({**own, "xid": str(xid), "weight": weight}, at)
    return family


def _last_xid(logged: Iterable[Mapping[str, Any]] | None, labels: Mapping[int, dict[str, str]]) -> Family:
    family = Family("DCGM_FI_DEV_XID_ERRORS", "The last XID of this boot, 0 when there was none.")
    if logged is None:
        return family
    last = {one["gpu"]: one["xid"] for one in logged}
    for index, own in labels.items():
        family.add(own, last.get(index, 0))
    return family


def _times(value: float | None, factor: int) -> float | None:
    return None if value is None else value * factor
