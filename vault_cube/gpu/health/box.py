"""Checks of the box: the expected GPUs, and a driver that fits them and the kernel."""

from __future__ import annotations

from vault_cube.gpu import cdi_check
from vault_cube.gpu.health.seen import Seen
from vault_cube.gpu.read import host
from vault_cube.gpu.read.facts import short
from vault_cube.settings.compatibility import GENERATION_NEEDS, OPEN_ONLY
from vault_cube.verdicts import FAULT, WARNING, Status, Verdict, fault, not_applicable, ok, warning


def driver_answers(seen: Seen) -> Verdict:
    """Can NVML be opened?"""
    if "problem" not in seen.facts or seen.cards:
        version = seen.facts.get("driver_version", "of unknown version")
        return ok(f"driver {version}, {len(seen.cards)} GPU(s)")
    evidence, _, todo = str(seen.facts["problem"]).partition("; ")
    if seen.settings.target.accelerator != "nvidia" and seen.facts["problem_kind"] in ("no library", "no driver"):
        return not_applicable(f"{evidence}; this target has no GPU (pillar target:accelerator)")
    return fault(evidence, todo)


def count(seen: Seen) -> Verdict:
    """Are there as many GPUs as in the pillar, and does the driver list all GPUs of the PCI bus?"""
    bus, wanted = host.pci_gpus(seen.machine), seen.settings.driver.gates.gpus
    listed = len(seen.cards)
    if len(bus) > listed:
        answering = {host.sysfs(card["pcie"]["bus_id"]) for card in seen.cards if "bus_id" in card.get("pcie", {})}
        missing = [gpu["bus_id"] for gpu in bus if gpu["bus_id"] not in answering]
        return fault(
            f"{len(bus)} GPU(s) on the PCI bus, {listed} in the driver: {', '.join(missing)} does not answer",
            "`journalctl -k -g NVRM`; power off and on; reseat card and power connector",
        )
    if not wanted:
        return ok(f"{listed}") if listed else not_applicable("no GPU, and the pillar expects none (driver:gates:gpus)")
    if listed == wanted:
        return ok(f"{listed}")
    return fault(
        f"{listed} instead of {wanted} (driver:gates:gpus)",
        "`lspci -d 10de:` lists the bus; if a card is missing there, reseat it and its power connector"
        if listed < wanted
        else "set driver:gates:gpus in pillar/local.sls to the number of GPUs",
    )


def one_uuid_each(seen: Seen) -> Verdict:
    """Does every GPU have its own UUID? Containers, CUDA and metrics identify GPUs by it."""
    owners: dict[str, list[int]] = {}
    for card in seen.answering:
        if "uuid" in card:
            owners.setdefault(card["uuid"], []).append(card["index"])
    if not owners:
        return not_applicable("no GPU reports its UUID")
    shared = [indices for indices in owners.values() if len(indices) > 1]
    if not shared:
        return ok(f"{len(owners)} UUIDs")
    evidence = "; ".join(f"GPU {', '.join(map(str, indices))} have the same UUID" for indices in shared)
    return warning(evidence, "`nvidia-smi -L`; a flashed VBIOS or inforom: ask the cards' vendor")


def is_model(name: str, wanted: str) -> bool:
    """Return whether a GPU's name ends with the model: RTX 5090 D, Laptop GPUs and H200 NVL are other models."""
    return name == wanted or name.endswith(f" {wanted}")


def model(seen: Seen) -> Verdict:
    """Is every GPU the model that the pillar names?"""
    wanted, cards = seen.settings.gpu.model, seen.answering
    if not cards:
        return not_applicable("no GPU that answers")
    shown = short(cards)
    if wanted is None:
        return ok(shown)
    wrong = [card for card in cards if not is_model(card.get("name", ""), wanted)]
    if not wrong:
        return ok(shown)
    names = ", ".join(f"GPU {card['index']} is {card.get('name', 'without a name')}" for card in wrong)
    return fault(f"{names}, not {wanted} (gpu:model)", "install the right card, or correct gpu:model")


def memory(seen: Seen) -> Verdict:
    """Does every GPU have the memory size of the pillar?"""
    least, cards = seen.settings.driver.gates.memory_mib, seen.answering
    if not cards or not least:
        return not_applicable(
            "the pillar expects no size (driver:gates:memory_mib)" if cards else "no GPU that answers"
        )
    small = [card for card in cards if card.get("memory_mib", 0) < least]
    if not small:
        return ok(f">= {least} MiB each")
    evidence = ", ".join(
        f"GPU {card['index']} has {card.get('memory_mib', 'an unknown number of')} MiB" for card in small
    )
    return fault(f"{evidence}, not {least} (driver:gates:memory_mib)", "another model, or memory that failed: burn in")


def one_vbios(seen: Seen) -> Verdict:
    """Do all cards of a model have the same VBIOS? Versions differ in power and fan curves."""
    by_model: dict[str, set[str]] = {}
    for card in seen.answering:
        if "vbios" in card:
            by_model.setdefault(card.get("name", ""), set()).add(card["vbios"])
    if not by_model:
        return not_applicable("no GPU reports its VBIOS")
    mixed = {name: versions for name, versions in by_model.items() if len(versions) > 1}
    if not mixed:
        return ok("; ".join(", ".join(versions) for versions in by_model.values()))
    evidence = "; ".join(f"{name}: {', '.join(sorted(versions))}" for name, versions in mixed.items())
    return warning(evidence, "install the same VBIOS on all cards with the vendor's tool")


def versions_agree(seen: Seen) -> Verdict:
    """Do kernel module, library and firmware have the same version, of the pillar's branch?"""
    module, driver = seen.facts.get("kernel_module_version"), seen.facts.get("driver_version")
    if driver is None:
        return not_applicable("the driver does not answer")
    # NVML's version is that of its interface followed by that of the library: 13.580.95.05
    library = seen.facts.get("nvml_version", "").partition(".")[2] or driver
    loaded = module or driver
    if loaded != library:
        return fault(
            f"kernel module {loaded}, library {library}",
            "reboot, so that the kernel loads the installed driver",
        )
    firmware = {card["gsp_firmware"] for card in seen.answering if "gsp_firmware" in card} - {driver}
    if firmware:
        return warning(
            f"driver {driver}, firmware {', '.join(sorted(firmware))}", "install the driver's packages again"
        )
    wanted, branch = seen.settings.driver.branch, driver.split(".")[0]
    if wanted and branch != wanted:
        return warning(
            f"driver {driver} is not of branch {wanted} (driver:branch)",
            "`salt-call --local state.apply driver`",
        )
    return ok(f"{driver}" + ("" if module else ", version of the kernel module unknown"))


def kernel_modules(seen: Seen) -> Verdict:
    """Are the kernel modules loaded, and do they support the GPUs?

    Blackwell needs the open modules of branch 570 or newer. CUDA does not start without nvidia_uvm.
    """
    flavour = seen.facts.get("kernel_module")
    families = {card["family"].removesuffix("-lovelace") for card in seen.answering if "family" in card}
    if flavour is None:
        return not_applicable("no kernel module is loaded")
    loaded = host.loaded_modules(seen.machine)
    # another driver may prevent it from loading, which `nobody else` reports
    if "nvidia" in loaded and not loaded & {"nvidia_uvm", "nouveau", "nova_core"}:
        return fault("nvidia_uvm is not loaded: CUDA cannot start", "`modprobe nvidia_uvm`; name it in driver:load")
    if flavour != "open" and families & OPEN_ONLY:
        return fault(
            f"{flavour} modules under {', '.join(families & OPEN_ONLY)}",
            "driver:modules: open, then state.apply driver",
        )
    branch = int(seen.facts.get("driver_branch", 0) or 0)
    young = [f"{name} needs {GENERATION_NEEDS[name]}" for name in families if branch < GENERATION_NEEDS.get(name, 0)]
    if branch and young:
        return fault(f"branch {branch}: {', '.join(sorted(young))} or newer", "choose a newer driver:branch")
    wanted = seen.settings.driver.modules
    if wanted and wanted != flavour:
        return warning(f"{flavour}, in the pillar {wanted}", "`salt-call --local state.apply driver`")
    return ok(flavour)


def device_files(seen: Seen) -> Verdict:
    """Can all users open the GPUs? CUDA reads and writes /dev/nvidiactl, /dev/nvidia-uvm and /dev/nvidiaN."""
    minors = [card["minor"] for card in seen.answering if "minor" in card]
    if not minors or "kernel_module" not in seen.facts or not (seen.machine.root / "dev/nvidiactl").exists():
        return not_applicable("no device files of the driver here")
    wrong = host.device_files(seen.machine, minors)
    if not wrong:
        return ok(f"/dev/nvidiactl, /dev/nvidia-uvm and {len(minors)} more")
    status: Status = FAULT if any("missing" in words for words in wrong.values()) else WARNING
    evidence = ", ".join(f"{path} {words}" for path, words in wrong.items())
    return Verdict(status, evidence, "`nvidia-modprobe -c0 -u` creates them; modes: NVreg_DeviceFileMode, udev rules")


def nobody_else(seen: Seen) -> Verdict:
    """Does another driver hold a GPU, such as nouveau, nova, or vfio for virtual machines?"""
    loaded = host.loaded_modules(seen.machine) & {"nouveau", "nova_core"}
    bound = [
        f"{gpu['bus_id']} by {gpu['driver']}"
        for gpu in host.pci_gpus(seen.machine)
        if gpu.get("driver") not in (None, "nvidia")
    ]
    if not loaded and not bound:
        return (
            ok("no other driver")
            if seen.cards or host.pci_gpus(seen.machine)
            else not_applicable("no GPU on the PCI bus")
        )
    return fault(
        "; ".join([*(f"{name} is loaded" for name in sorted(loaded)), *bound]),
        "name it in driver:blocked, `salt-call --local state.apply driver`, reboot",
    )


def secure_boot(seen: Seen) -> Verdict:
    """Does Secure Boot reject the modules? With it, modules built by DKMS load only with an enrolled key."""
    on = host.secure_boot(seen.machine)
    if on is None:
        return not_applicable("not booted by UEFI")
    if not on:
        return ok("off")
    if "nvidia" in host.loaded_modules(seen.machine):
        return ok("on, and the module is loaded: it is signed")
    if seen.settings.driver.provider == "none":
        return not_applicable("on, and no driver is wanted")
    return fault(
        "on, and the kernel module is not loaded", "use signed modules, enrol the key (mokutil), or turn it off"
    )


def peer_path(seen: Seen) -> Verdict:
    """Can GPUs reach each other directly? ACS and a translating IOMMU route their traffic through the processor.

    Source: NVIDIA, NCCL user guide, "Troubleshooting", PCI Access Control Services.
    """
    cards = [card for card in seen.answering if "bus_id" in card.get("pcie", {})]
    if len(cards) < 2:
        return not_applicable("there are fewer than two GPUs")
    modes = {host.iommu(seen.machine, card["pcie"]["bus_id"]) or "none" for card in cards}
    bridges = [host.redirecting_bridges(seen.machine, card["pcie"]["bus_id"]) for card in cards]
    acs = sorted({name for redirecting in bridges if redirecting for name in redirecting})
    evidence = f"IOMMU {', '.join(sorted(modes))}; " + (
        "only root can read ACS" if None in bridges else f"ACS redirects at {', '.join(acs)}" if acs else "no ACS"
    )
    if all(card.get("family") and "GeForce" in card.get("name", "") for card in cards):
        return ok(f"{evidence}; GeForce cards have no peer-to-peer transfers that it could slow down")
    if acs or any(mode.startswith("DMA") for mode in modes):
        return warning(
            evidence, "turn ACS off in the BIOS or with setpci, and boot with iommu=pt, as NCCL's guide recommends"
        )
    return ok(evidence)


def containers(seen: Seen) -> Verdict:
    """Is the CDI specification, by which containers get the GPUs, complete, and does it fit the installed driver?"""
    runtime = seen.settings.runtime
    if runtime.provider == "none" or runtime.mode != "cdi":
        return not_applicable("containers get no GPUs by CDI on this target (pillar runtime:mode)")
    folders = [seen.machine.root / "etc/cdi", seen.machine.root / "var/run/cdi"]
    return cdi_check.specification(folders, len(seen.cards), runtime.provider)


CHECKS = (
    driver_answers, count, one_uuid_each, model, memory, one_vbios, versions_agree, kernel_modules, device_files,
    nobody_else, secure_boot, peer_path, containers,
)  # fmt: skip
