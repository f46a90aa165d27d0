"""How the GPUs reach each other and the processor: links, NUMA nodes, P2P, and what NCCL will use."""

from __future__ import annotations

from typing import Any

from vault_cube.gpu.nvml.device import Device, Nvml
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host
from vault_cube.gpu.read.detail import nvlinks
from vault_cube.gpu.read.facts import text
from vault_cube.gpu.read.host import Host

# nvml.h: nvmlGpuTopologyLevel_t, with the words of `nvidia-smi topo --matrix`
PATHS = {
    0: ("INT", "on one board"),
    10: ("PIX", "one PCIe switch"),
    20: ("PXB", "several PCIe switches"),
    30: ("PHB", "one host bridge of the processor"),
    40: ("NODE", "several host bridges of one NUMA node"),
    50: ("SYS", "from NUMA node to NUMA node"),
}
# nvml.h: nvmlGpuP2PStatus_t
P2P = {
    0: "ok",
    1: "chipset not supported",
    2: "GPU not supported",
    3: "not between these host bridges",
    4: "disabled by registry key",
    5: "not supported",
    6: "unknown",
}

NEAR = ("INT", "PIX", "PXB")
"""Paths over which NCCL takes peer to peer by itself."""
SWITCH = 2  # nvml.h: NVML_NVLINK_DEVICE_TYPE_SWITCH


def topology(session: Session, machine: Host | None = None) -> dict[str, Any]:
    """Where each GPU sits and how it reaches the others; never raises.

    gpus [{index, bus_id, numa_node, cpus, nvlinks (active ones)}], links {"0-1": {path, nvlinks, p2p, read, write}},
    legend {path: words}, nccl {transport, why}, problem where there is none.
    """
    machine = machine or Host()
    found: dict[str, Any] = {"gpus": [], "links": {}, "legend": {}}
    try:
        cards = session.each(_place)
        pairs = session.ask(_pairs)
    except NvmlProblem as err:
        return found | {"problem": str(err), "nccl": {"transport": "none", "why": err.problem.said}}
    for card in cards:
        if "bus_id" in card:
            near = {"numa_node": host.numa_node(machine, card["bus_id"]), "cpus": host.cpus(machine, card["bus_id"])}
            card |= {name: value for name, value in near.items() if value is not None}
    found |= {"gpus": cards, "links": pairs, "nccl": nccl(pairs, len(cards), amd=host.amd(machine))}
    used = {link["path"] for link in pairs.values() if "path" in link}
    found["legend"] = {name: words for name, words in PATHS.values() if name in used}
    if any("NV" in path for path in used):
        found["legend"]["NV#"] = "that many NVLinks"
    if not cards:
        found["problem"] = "the driver works and finds no GPU: `lspci -nn | grep 10de`"
    lost = [card["problem"] for card in cards if "problem" in card]
    if lost:
        found["problem"] = "; ".join(lost)
    if session.simulated:
        found["simulated"] = True
    return found


def nccl(links: dict[str, dict[str, Any]], gpus: int, *, amd: bool = False) -> dict[str, str]:
    """What NCCL uses inside a box: the slowest of all pairs decides, a ring goes over each.

    amd: whether the processor is AMD's. Sources: NCCL user guide, NCCL_P2P_DISABLE, NCCL_P2P_LEVEL, NCCL_SHM_DISABLE;
    NCCL 5067397c, src/graph/paths.cc: P2P over NVLink, or over PCIe switches (PXB and nearer); past a host bridge of
    the processor only on AMD with two GPUs or fewer; else shared memory. What it really took stands in its log:
    NCCL_DEBUG=INFO.
    """
    if gpus < 2:
        return {"transport": "none", "why": "one GPU has no peer"}
    without = sorted(pair for pair, link in links.items() if not link.get("p2p"))
    if without:
        reasons = {links[pair].get("read", "unknown") for pair in without}
        pairs = f"{', '.join(without)} ({', '.join(sorted(reasons))})"
        why = f"no peer to peer between {pairs}: data goes through host memory"
        advice = "leave NCCL_P2P_LEVEL unset, give containers shared memory (--ipc=host)"
        return {"transport": "SHM", "why": f"{why}; {advice}"}
    if all(link.get("nvlinks") for link in links.values()):
        return {"transport": "P2P over NVLink", "why": "every pair of GPUs has NVLinks"}
    far = sorted(pair for pair, link in links.items() if not link.get("nvlinks") and link.get("path") not in NEAR)
    if far and not (amd and gpus <= 2):
        paths = ", ".join(sorted({links[pair].get("path", "?") for pair in far}))
        why = (
            f"the path between {', '.join(far)} is {paths}: NCCL takes P2P up to PXB only; NCCL_P2P_LEVEL=SYS allows it"
        )
        return {"transport": "SHM", "why": f"{why} (compare both: all-reduce with and without)"}
    return {"transport": "P2P over PCIe", "why": "every pair of GPUs has peer to peer that NCCL takes"}


def _place(device: Device) -> dict[str, Any]:
    pci = device.ask("nvmlDeviceGetPciInfo")
    node, links = device.ask("nvmlDeviceGetNumaNodeId"), [one for one in nvlinks(device) if one["active"]]
    found: dict[str, Any] = {"nvlinks": len(links)}
    if pci is not None:
        found["bus_id"] = text(pci.busId)
    return found | ({} if node is None else {"numa_node": node})


def _pairs(nvml: Nvml) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    devices = [nvml.device(index) for index in range(nvml.count)]
    for device in devices:
        device.begin()
    for one in devices:
        peers = _peers(one)
        for other in devices[one.index + 1 :]:
            found[f"{one.index}-{other.index}"] = _link(one, other, peers)
    return found


def _link(one: Device, other: Device, peers: dict[str, int]) -> dict[str, Any]:
    level = one.ask("nvmlDeviceGetTopologyCommonAncestor", other.handle) if other.handle else None
    status = {
        name: one.ask("nvmlDeviceGetP2PStatus", other.handle, number) if other.handle else None
        for name, number in (("read", 0), ("write", 1))
    }
    pci = other.ask("nvmlDeviceGetPciInfo")
    # a switch takes every link, and reaches every GPU
    wires = peers.get("switch") or (peers.get(_bus(pci), 0) if pci is not None else 0)
    link: dict[str, Any] = {name: P2P.get(code, str(code)) for name, code in status.items() if code is not None}
    link["p2p"] = all(code == 0 for code in status.values())
    if wires:
        return link | {"path": f"NV{wires}", "nvlinks": wires}
    return link | ({} if level is None else {"path": PATHS.get(level, (str(level), ""))[0]})


def _peers(device: Device) -> dict[str, int]:
    """How many active NVLinks go to each device, by its PCI address."""
    found: dict[str, int] = {}
    for link in nvlinks(device):
        if not link["active"]:
            continue
        remote = device.ask("nvmlDeviceGetNvLinkRemotePciInfo", link["link"])
        switch = device.ask("nvmlDeviceGetNvLinkRemoteDeviceType", link["link"]) == SWITCH
        peer = "switch" if switch else None if remote is None else _bus(remote)
        if peer:
            found[peer] = found.get(peer, 0) + 1
    return found


def _bus(pci: Any) -> str:
    return f"{pci.domain:x}:{pci.bus:x}:{pci.device:x}"
