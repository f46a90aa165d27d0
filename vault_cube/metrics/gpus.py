"""The GPUs' readings as Prometheus metrics.

Metrics that NVIDIA's dcgm-exporter also has use its names, units and labels, so that dashboards and rules for it work
(github.com/NVIDIA/dcgm-exporter, etc/default-counters.csv; DCGM's field identifiers, dcgm_fields.h).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host, kernel_log, throttle
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.readings import readings
from vault_cube.gpu.read.xid_memory import XidMemory
from vault_cube.metrics.exposition import Family

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, Facts, Xid

Labels = dict[str, str]
"""Labels of one GPU."""


@dataclass(frozen=True)
class Metric:
    """A metric that dcgm-exporter has as well."""

    name: str
    """DCGM's name without `DCGM_FI_DEV_`."""
    help: str
    """With the unit."""
    value: Callable[[Card], float | None]
    """Returns the value in DCGM's unit; None if the card has none."""
    kind: Literal["gauge", "counter"] = "gauge"


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100


def _millijoules(joules: float | None) -> float | None:
    return None if joules is None else joules * 1000


def _fastest(speeds: Sequence[int]) -> int | None:
    return max(speeds, default=None)


DCGM = (
    Metric("GPU_TEMP", "GPU temperature (in C).", lambda card: card.get("temperature_c")),
    Metric("MEMORY_TEMP", "Memory temperature (in C).", lambda card: card.get("memory_temperature_c")),
    Metric("POWER_USAGE", "Power draw (in W).", lambda card: card.get("power_w")),
    Metric("ENFORCED_POWER_LIMIT", "Power limit in force (in W).", lambda card: card.get("power_limit_w")),
    Metric("TOTAL_ENERGY_CONSUMPTION", "Energy since the driver was loaded (in mJ).",
           lambda card: _millijoules(card.get("energy_j")), "counter"),
    Metric("SM_CLOCK", "SM clock (in MHz).", lambda card: card.get("clocks_mhz", {}).get("sm")),
    Metric("MEM_CLOCK", "Memory clock (in MHz).", lambda card: card.get("clocks_mhz", {}).get("memory")),
    Metric("GPU_UTIL", "Time in which a kernel ran (in %).", lambda card: _percent(card.get("utilisation"))),
    Metric("MEM_COPY_UTIL", "Time in which memory was read or written (in %).",
           lambda card: _percent(card.get("memory_utilisation"))),
    Metric("ENC_UTIL", "Encoder utilisation (in %).", lambda card: _percent(card.get("encoder"))),
    Metric("DEC_UTIL", "Decoder utilisation (in %).", lambda card: _percent(card.get("decoder"))),
    Metric("FB_USED", "Memory in use (in MiB).", lambda card: card.get("memory_used_mib")),
    Metric("FB_FREE", "Memory that is free (in MiB).", lambda card: card.get("memory_free_mib")),
    Metric("FAN_SPEED", "Fan speed, the fastest of the card (in %).",
           lambda card: _fastest(card.get("fan_percent", ()))),
    Metric("PCIE_LINK_GEN", "PCIe generation now; idle cards drop.",
           lambda card: card.get("pcie", {}).get("generation")),
    Metric("PCIE_LINK_WIDTH", "PCIe lanes now.", lambda card: card.get("pcie", {}).get("width")),
    Metric("PCIE_REPLAY_COUNTER", "PCIe packets sent again.",
           lambda card: card.get("pcie", {}).get("replays"), "counter"),
    Metric("CLOCKS_EVENT_REASONS", "Throttle reasons (bitmask).", lambda card: card.get("throttle_mask")),
    Metric("ECC_DBE_VOL_TOTAL", "Uncorrected memory errors since the driver was loaded.",
           lambda card: card.get("ecc_uncorrected"), "counter"),
)  # fmt: skip


def families(
    session: Session, machine: Host | None = None, *, beside_dcgm: bool = False, memory: Path | None = None
) -> list[Family]:
    """Return all metrics. A driver that does not answer is a metric, not an error.

    machine: the machine whose kernel log is read. beside_dcgm: leave out the metrics of dcgm-exporter. memory: file
    that stores this boot's XIDs, so that only the end of the log has to be read.
    """
    machine = machine or Host()
    stored = XidMemory(machine, memory) if memory else None
    log = stored.begin() if stored else kernel_log.begin(machine)
    grain = facts(session, machine)
    cards: list[Card] = []
    if grain["devices"]:
        try:
            cards = readings(session)
        except NvmlProblem as err:
            grain |= {"problem": str(err), "problem_kind": err.problem.kind}
    labels = {device["index"]: _labels(device) for device in grain["devices"]}
    cards = [card for card in cards if card["index"] in labels]
    xids = stored.xids(log) if stored else kernel_log.xids(log)
    # if the log cannot be read, the number of XIDs is unknown, and their metrics are absent
    logged = None if xids is None else _on_gpus(xids, grain["devices"])
    own = [*_state(session, grain, labels, cards), _throttled(labels, cards), _xid_times(logged or [], labels)]
    own += [_log(logged)] if labels else []
    return own if beside_dcgm else [*_dcgm(labels, cards), _last_xid(logged, labels), *own]


def _labels(device: Card) -> Labels:
    """Return dcgm-exporter's labels of a GPU."""
    return {
        "gpu": str(device["index"]),
        "UUID": str(device.get("uuid", "")),
        "pci_bus_id": str(device.get("pcie", {}).get("bus_id", "")),
        "device": f"nvidia{device['index']}",
        "modelName": str(device.get("name", "")),
    }


def _dcgm(labels: Mapping[int, Labels], cards: Sequence[Card]) -> list[Family]:
    """Return the metrics that dcgm-exporter has as well."""
    dcgm = []
    for metric in DCGM:
        family = Family(f"DCGM_FI_DEV_{metric.name}", metric.help, metric.kind)
        for card in cards:
            family.add(labels[card["index"]], metric.value(card))
        dcgm.append(family)
    return dcgm


def _state(session: Session, grain: Facts, labels: Mapping[int, Labels], cards: Sequence[Card]) -> list[Family]:
    """Return whether the driver and the GPUs answer, and their versions."""
    answers = Family("vault_cube_gpu_answers", "1 if the GPU answers, 0 if it is listed and does not.")
    lost = {card["index"] for card in (*grain["devices"], *cards) if "problem" in card}
    for index, own in labels.items():
        answers.add(own, int(index not in lost))
    processes = Family("vault_cube_gpu_processes", "Processes that hold memory of the GPU.")
    for card in cards:
        for kind in ("compute", "graphics"):
            if "processes" in card:
                number = sum(process["kind"] == kind for process in card["processes"])
                processes.add({**labels[card["index"]], "kind": kind}, number)
    count = Family("vault_cube_gpus", "GPUs that answer.")
    count.add({}, len(set(labels) - lost))
    problem = Family("vault_cube_gpu_problem", "1 while the driver or a GPU does not answer; kind is the reason.")
    problem.add({"kind": str(grain.get("problem_kind", ""))}, int("problem" in grain or bool(lost)))
    driver = Family("vault_cube_gpu_driver_info", "Always 1; the driver's versions.")
    if "driver_version" in grain:
        versions = {
            "driver_version": grain["driver_version"],
            "cuda_driver_version": grain.get("cuda_driver_version", ""),
            "kernel_module": grain.get("kernel_module", ""),
        }
        driver.add(versions, 1)
    simulated = Family("vault_cube_gpu_simulated", "1 if the fake library of a test answered, not NVIDIA's.")
    simulated.add({}, int(session.simulated))
    return [answers, processes, count, problem, driver, simulated]


def _throttled(labels: Mapping[int, Labels], cards: Sequence[Card]) -> Family:
    """Return one series per reason, because PromQL has no operators for bits."""
    family = Family(
        "vault_cube_gpu_throttled", "1 while the reason is active; weight: idle, chosen, power, heat or fault."
    )
    for card in cards:
        if "throttle_mask" not in card:
            continue
        # an unknown bit is a series as well
        for reason in dict.fromkeys((*throttle.WEIGHT, *card["throttle"])):
            weight = throttle.WEIGHT.get(reason, "unknown")
            own = labels[card["index"]]
            family.add({**own, "reason": reason, "weight": weight}, int(reason in card["throttle"]))
    return family


def _log(logged: Sequence[Xid] | None) -> Family:
    family = Family("vault_cube_gpu_log_readable", "1 if the kernel's log was read for XIDs, 0 if it is not readable.")
    family.add({}, int(logged is not None))
    return family


def _on_gpus(xids: Iterable[Xid], devices: Iterable[Card]) -> list[Xid]:
    """Add to each XID the GPU at its PCI address; `?` for a GPU that is gone."""
    indices = {
        host.slot(device["pcie"]["bus_id"]): device["index"] for device in devices if "bus_id" in device.get("pcie", {})
    }
    entries = list(xids)
    for entry in entries:
        entry["gpu"] = indices.get(host.slot(entry["bus_id"]), "?")
    return entries


def _xid_times(logged: Iterable[Xid], labels: Mapping[int, Labels]) -> Family:
    """Return the time of the last occurrence of each XID."""
    family = Family("vault_cube_gpu_xid_timestamp_seconds", "Time of the XID's last entry in this boot's log.")
    last = {(entry["gpu"], entry["xid"], entry["weight"], entry["bus_id"]): entry["at"] for entry in logged}
    for (gpu, xid, weight, bus_id), at in last.items():
        own = labels[gpu] if isinstance(gpu, int) else {"gpu": "?", "pci_bus_id": bus_id}
        family.add({**own, "xid": str(xid), "weight": weight}, at)
    return family


def _last_xid(logged: Iterable[Xid] | None, labels: Mapping[int, Labels]) -> Family:
    family = Family("DCGM_FI_DEV_XID_ERRORS", "The last XID of this boot, 0 if there was none.")
    if logged is None:
        return family
    last = {entry["gpu"]: entry["xid"] for entry in logged}
    for index, own in labels.items():
        family.add(own, last.get(index, 0))
    return family
