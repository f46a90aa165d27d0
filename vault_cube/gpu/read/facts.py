"""What the GPUs are: identity and versions, which change only with a reboot or with the hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vault_cube.gpu.nvml.device import Device, Nvml
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host
from vault_cube.gpu.read.host import Host

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, Facts, Pcie, Versions

# nvml.h, NVML_DEVICE_ARCH_…; the words of gpu-feature-discovery's label nvidia.com/gpu.family
FAMILIES = {
    2: "kepler", 3: "maxwell", 4: "pascal", 5: "volta", 6: "turing", 7: "ampere", 8: "ada-lovelace", 9: "hopper",
    10: "blackwell", 13: "rubin",
}  # fmt: skip

MEMORY_V2 = 0x2000028  # nvml.h: nvmlMemory_v2


def facts(session: Session, machine: Host | None = None) -> Facts:
    """Return the grain `gpu`. Never raises: `problem` describes in one line what does not answer.

    Each device has index, name, uuid, serial, memory_mib, compute_capability, family, pcie {bus_id, generation_max,
    width_max}, vbios, ecc and mig. The fields are in alphabetical order.
    """
    grain: Facts = present(count=0, devices=[], **versions(session, machine or Host()))
    if "problem" not in grain:
        try:
            grain["devices"] = session.each(identity)
            grain["count"] = len(grain["devices"])
        except NvmlProblem as err:
            grain |= {"problem": str(err), "problem_kind": err.problem.kind}
    if "problem" not in grain:
        lost = [card["problem"] for card in grain["devices"] if "problem" in card]
        if lost:
            grain |= {"problem": "; ".join(lost), "problem_kind": "gpu"}
        elif not grain["count"]:
            grain |= {"problem": "the driver works and lists no GPU: `lspci -nn | grep 10de`", "problem_kind": "no gpu"}
    works = any("problem" not in card for card in grain["devices"])
    grain["accelerator"] = "nvidia" if works else "cpu"
    if session.simulated:
        grain["simulated"] = True
    in_order: Facts = present(**dict(sorted(grain.items())))
    return in_order


def versions(session: Session, machine: Host) -> Versions:
    """Return the part of `facts` that concerns no single GPU: versions, kernel module, problem, problem_kind."""
    module = host.driver_module(machine)
    try:
        module |= session.ask(_versions)
    except NvmlProblem as err:
        module |= {"problem": str(err), "problem_kind": err.problem.kind}
    return module


def _versions(nvml: Nvml) -> Versions:
    driver, cuda = nvml.ask("nvmlSystemGetDriverVersion"), nvml.ask("nvmlSystemGetCudaDriverVersion")
    known: Versions = present(
        driver_version=driver,
        driver_branch=driver.split(".")[0] if driver else None,
        # NVML returns 1000 * major + 10 * minor
        cuda_driver_version=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        nvml_version=nvml.ask("nvmlSystemGetNVMLVersion"),
    )
    return known


def identity(device: Device) -> Card:
    """Return one entry of `devices`; runs in the session's child."""
    ask = device.ask
    total, capability = memory(device), ask("nvmlDeviceGetCudaComputeCapability")
    ecc, mig, family = ask("nvmlDeviceGetEccMode"), ask("nvmlDeviceGetMigMode"), ask("nvmlDeviceGetArchitecture")
    pci = ask("nvmlDeviceGetPciInfo")
    link: Pcie = present(
        bus_id=None if pci is None else text(pci.busId),
        generation_max=ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        width_max=ask("nvmlDeviceGetMaxPcieLinkWidth"),
    )
    card: Card = present(
        name=ask("nvmlDeviceGetName"),
        uuid=ask("nvmlDeviceGetUUID"),
        serial=ask("nvmlDeviceGetSerial"),
        vbios=ask("nvmlDeviceGetVbiosVersion"),
        memory_mib=None if total is None else total.total >> 20,
        compute_capability=None if capability is None else ".".join(map(str, capability)),
        family=FAMILIES.get(family),
        ecc=None if ecc is None else switch(ecc[0]),
        mig=None if mig is None else switch(mig[0]),
        pcie=link or None,
    )
    return card


def memory(device: Device) -> Any:
    """Read total, used and free memory in bytes and, from branch 510 on, the driver's own, which used has before."""
    answer = device.ask("nvmlDeviceGetMemoryInfo", MEMORY_V2)
    if answer is None and "nvmlDeviceGetMemoryInfo" not in device.dropped:
        answer = device.ask("nvmlDeviceGetMemoryInfo")
    return answer


def present(**fields: Any) -> Any:
    """Return the fields that have a value; a device lacks the others. The caller's annotation names the type."""
    return {name: value for name, value in fields.items() if value not in (None, "")}


def switch(state: int | None) -> str | None:
    """Return NVML's nvmlEnableState_t as a word; None for a card without the switch."""
    return None if state is None else ("enabled" if state else "disabled")


def text(value: Any) -> str:
    """Return a string of NVML, which some functions give as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def short(cards: Sequence[Card], problem: str = "no GPU") -> str:
    """Describe the GPUs in one line, such as `4 x NVIDIA GeForce RTX 5090`. problem: the text if there are none."""
    if not cards:
        return problem
    names: dict[str, int] = {}
    for card in cards:
        name = card.get("name", "unknown GPU")
        names[name] = names.get(name, 0) + 1
    return ", ".join(f"{count} x {name}" for name, count in names.items())
