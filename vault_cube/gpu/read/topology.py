"""How the GPUs reach each other and the processor: links, NUMA nodes, P2P, and the transport of NCCL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vault_cube.gpu.nvml.device import Device, Nvml
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host
from vault_cube.gpu.read.detail import nvlinks
from vault_cube.gpu.read.facts import present, text
from vault_cube.gpu.read.host import Host

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Nccl, Path, Place, Topology

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
"""Paths over which NCCL uses peer-to-peer transfers by default."""
SWITCH = 2  # nvml.h: NVML_NVLINK_DEVICE_TYPE_SWITCH


def topology(session: Session, machine: Host | None = None) -> Topology:
    """Return the position of each GPU and its paths to the others. Never raises: `problem` names what is silent."""
    machine = machine or Host()
    try:
        places = session.each(_place)
        paths = session.ask(_paths)
    except NvmlProblem as err:
        none: Nccl = {"transport": "none", "why": err.problem.reason}
        return {"gpus": [], "links": {}, "legend": {}, "nccl": none, "problem": str(err)}
    for place in places:
        if "bus_id" in place:
            if (node := host.numa_node(machine, place["bus_id"])) is not None:
                place["numa_node"] = node
            if cpus := host.cpus(machine, place["bus_id"]):
                place["cpus"] = cpus
    matrix: Topology = {
        "gpus": places,
        "links": paths,
        "legend": _legend({link["path"] for link in paths.values() if "path" in link}),
        "nccl": nccl(paths, len(places), amd=host.amd(machine)),
    }
    lost = [place["problem"] for place in places if "problem" in place]
    if lost:
        matrix["problem"] = "; ".join(lost)
    elif not places:
        matrix["problem"] = "the driver works and lists no GPU: `lspci -nn | grep 10de`"
    if session.simulated:
        matrix["simulated"] = True
    return matrix


def _legend(used: set[str]) -> dict[str, str]:
    legend = {name: words for name, words in PATHS.values() if name in used}
    if any("NV" in path for path in used):
        legend["NV#"] = "that many NVLinks"
    return legend


def nccl(links: dict[str, Path], gpus: int, *, amd: bool = False) -> Nccl:
    """Predict the transport that NCCL uses within the box; the slowest pair decides, because a ring passes all of them.

    amd: whether the processor is from AMD. Sources: NCCL user guide, NCCL_P2P_DISABLE, NCCL_P2P_LEVEL and
    NCCL_SHM_DISABLE; NCCL 5067397c, src/graph/paths.cc: P2P over NVLink, or over PCIe switches (PXB and
    nearer); across a host bridge of the processor only on AMD with at most two GPUs; else shared memory. With
    NCCL_DEBUG=INFO its log shows the transport that it chose.
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
            f"the path between {', '.join(far)} is {paths}: NCCL uses P2P only up to PXB; NCCL_P2P_LEVEL=SYS allows it"
        )
        return {"transport": "SHM", "why": f"{why} (compare both: all-reduce with and without)"}
    return {"transport": "P2P over PCIe", "why": "every pair of GPUs has a peer-to-peer path that NCCL uses"}


def _place(device: Device) -> Place:
    pci = device.ask("nvmlDeviceGetPciInfo")
    place: Place = present(
        nvlinks=sum(link["active"] for link in nvlinks(device)),
        bus_id=None if pci is None else text(pci.busId),
        numa_node=device.ask("nvmlDeviceGetNumaNodeId"),
    )
    return place


def _paths(nvml: Nvml) -> dict[str, Path]:
    """Return the path of each pair of GPUs; runs in the session's child."""
    paths: dict[str, Path] = {}
    devices = [nvml.device(index) for index in range(nvml.count)]
    for device in devices:
        device.begin()
    for device in devices:
        peers = _peers(device)
        for other in devices[device.index + 1 :]:
            paths[f"{device.index}-{other.index}"] = _path(device, other, peers)
    return paths


def _path(device: Device, other: Device, peers: dict[str, int]) -> Path:
    status = {
        name: device.ask("nvmlDeviceGetP2PStatus", other.handle, number) if other.handle else None
        for name, number in (("read", 0), ("write", 1))
    }
    link: Path = present(**{name: None if code is None else P2P.get(code, str(code)) for name, code in status.items()})
    link["p2p"] = all(code == 0 for code in status.values())
    pci = other.ask("nvmlDeviceGetPciInfo")
    # a switch is at the end of every link, and reaches every GPU
    wires = peers.get("switch") or (peers.get(_bus(pci), 0) if pci is not None else 0)
    level = device.ask("nvmlDeviceGetTopologyCommonAncestor", other.handle) if other.handle else None
    if wires:
        link |= {"path": f"NV{wires}", "nvlinks": wires}
    elif level is not None:
        link["path"] = PATHS.get(level, (str(level), ""))[0]
    return link


def _peers(device: Device) -> dict[str, int]:
    """Count the active NVLinks to each device, by its PCI address."""
    counts: dict[str, int] = {}
    for link in nvlinks(device):
        if not link["active"]:
            continue
        remote = device.ask("nvmlDeviceGetNvLinkRemotePciInfo", link["link"])
        switch = device.ask("nvmlDeviceGetNvLinkRemoteDeviceType", link["link"]) == SWITCH
        peer = "switch" if switch else None if remote is None else _bus(remote)
        if peer:
            counts[peer] = counts.get(peer, 0) + 1
    return counts


def _bus(pci: Any) -> str:
    return f"{pci.domain:x}:{pci.bus:x}:{pci.device:x}"
