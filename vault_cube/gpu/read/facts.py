"""What the GPUs are: identity and versions, which change with a reboot or a screwdriver only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vault_cube.gpu.nvml.device import Device, Nvml
from vault_cube.gpu.nvml.failures import NvmlProblem
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host
from vault_cube.gpu.read.host import Host

# nvml.h, NVML_DEVICE_ARCH_…; the words of gpu-feature-discovery's label nvidia.com/gpu.family
FAMILIES = {
    2: "kepler", 3: "maxwell", 4: "pascal", 5: "volta", 6: "turing", 7: "ampere", 8: "ada-lovelace", 9: "hopper",
    10: "blackwell", 13: "rubin",
}  # fmt: skip


def facts(session: Session, machine: Host | None = None) -> dict[str, Any]:
    """What is in the box. Never raises: `problem` says in one line what does not answer.

    count, devices [{index, name, uuid, serial, memory_mib, compute_capability, family, pcie {bus_id, generation_max,
    width_max}, vbios, ecc, mig}], driver_version, driver_branch, kernel_module (open or proprietary),
    cuda_driver_version, nvml_version, accelerator (nvidia, or cpu where there is no GPU that works), problem,
    problem_kind, simulated (only where it is). What a device lacks is absent.
    """
    found: dict[str, Any] = {"count": 0, "devices": [], **versions(session, machine or Host())}
    if "problem" not in found:
        try:
            found["devices"] = session.each(identity)
            found["count"] = len(found["devices"])
        except NvmlProblem as err:
            found |= {"problem": str(err), "problem_kind": err.problem.kind}
    if "problem" not in found:
        lost = [one["problem"] for one in found["devices"] if "problem" in one]
        if lost:
            found |= {"problem": "; ".join(lost), "problem_kind": "gpu"}
        elif not found["count"]:
            found |= {"problem": "the driver works and finds no GPU: `lspci -nn | grep 10de`", "problem_kind": "no gpu"}
    works = any("problem" not in one for one in found["devices"])
    found["accelerator"] = "nvidia" if works else "cpu"
    if session.simulated:
        found["simulated"] = True
    return {name: found[name] for name in sorted(found)}


def versions(session: Session, machine: Host) -> dict[str, Any]:
    """The part of `facts` that concerns no single GPU: versions, kernel module, problem, problem_kind."""
    found = host.driver_module(machine)
    try:
        return found | session.ask(_versions)
    except NvmlProblem as err:
        return found | {"problem": str(err), "problem_kind": err.problem.kind}


def _versions(nvml: Nvml) -> dict[str, Any]:
    driver, cuda = nvml.ask("nvmlSystemGetDriverVersion"), nvml.ask("nvmlSystemGetCudaDriverVersion")
    found = {
        "driver_version": driver,
        "driver_branch": driver.split(".")[0] if driver else None,
        # NVML gives 1000 * major + 10 * minor
        "cuda_driver_version": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        "nvml_version": nvml.ask("nvmlSystemGetNVMLVersion"),
    }
    return {name: value for name, value in found.items() if value}


def identity(device: Device) -> dict[str, Any]:
    """One entry of `devices`, in the child."""
    # not above: a machine without a driver never comes here
    from vault_cube.gpu.read import readings

    ask = device.ask
    memory, capability, pci = (
        readings.memory(device),
        ask("nvmlDeviceGetCudaComputeCapability"),
        ask("nvmlDeviceGetPciInfo"),
    )
    ecc, mig, family = ask("nvmlDeviceGetEccMode"), ask("nvmlDeviceGetMigMode"), ask("nvmlDeviceGetArchitecture")
    found = {
        "name": ask("nvmlDeviceGetName"),
        "uuid": ask("nvmlDeviceGetUUID"),
        "serial": ask("nvmlDeviceGetSerial"),
        "vbios": ask("nvmlDeviceGetVbiosVersion"),
        "memory_mib": None if memory is None else memory.total >> 20,
        "compute_capability": None if capability is None else ".".join(map(str, capability)),
        "family": FAMILIES.get(family),
        "ecc": None if ecc is None else switch(ecc[0]),
        "mig": None if mig is None else switch(mig[0]),
        "pcie": {
            name: value
            for name, value in {
                "bus_id": None if pci is None else text(pci.busId),
                "generation_max": ask("nvmlDeviceGetMaxPcieLinkGeneration"),
                "width_max": ask("nvmlDeviceGetMaxPcieLinkWidth"),
            }.items()
            if value
        },
    }
    return {name: value for name, value in found.items() if value not in (None, "", {})}


def switch(state: int | None) -> str | None:
    """NVML's nvmlEnableState_t in a word; none for a card without the switch."""
    return None if state is None else ("enabled" if state else "disabled")


def text(value: Any) -> str:
    """What NVML gives as bytes here and as text there."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def short(found: Mapping[str, Any]) -> str:
    """One line for a person: how many of what, or why none."""
    if not found["devices"]:
        return str(found.get("problem", "no GPU"))
    names: dict[str, int] = {}
    for one in found["devices"]:
        name = one.get("name", "unknown GPU")
        names[name] = names.get(name, 0) + 1
    return ", ".join(f"{count} x {name}" for name, count in names.items())
