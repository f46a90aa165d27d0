"""Reset one GPU. nvidia-smi refuses while a process holds it, including the persistence daemon and our own services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vault_cube.errors import VaultCubeError
from vault_cube.gpu.nvml.device import Device
from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read import host, readings
from vault_cube.gpu.read.facts import present, text
from vault_cube.gpu.read.host import Host
from vault_cube.process import command, last_line
from vault_cube.settings import gpu as settings

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Card, Reset

RESET_S = 120
UNIT_S = 60


def reset(session: Session, chosen: settings.Reset, index: int, *, test: bool, machine: Host) -> Reset:
    """Stop the services that hold the GPUs, reset one GPU, and start those services again.

    index: NVML's number of the GPU. test: return the commands, and run none. Returns gpu, commands (those that ran, or
    would run), reset (whether it worked), message (the last line of nvidia-smi). Raises VaultCubeError if a program
    uses the GPU, or if the services cannot be stopped from here.
    """
    holders = chosen.stop
    own = machine.text("/proc/self/cgroup") or ""
    inside = [unit for unit in holders if unit.endswith(".service") and f"/{unit}" in own]
    if inside and not test:
        raise VaultCubeError(
            f"gpu.reset runs in {inside[0]}, which holds the GPUs: run `salt-call --local gpu.reset {index}` on the box"
        )
    bus_id = _free(session, machine, index)
    # the session's child holds the GPUs as well
    session.close()
    active = [unit for unit in holders if command(["systemctl", "is-active", "--quiet", unit], UNIT_S).returncode == 0]
    words = ["nvidia-smi", "--gpu-reset", "-i", bus_id]
    commands = [*(["systemctl", "stop", unit] for unit in active), words]
    commands += [["systemctl", "start", unit] for unit in reversed(active)]
    result: Reset = {"gpu": index, "commands": [" ".join(line) for line in commands]}
    if not test:
        _run(active, words, result)
    return result


def _free(session: Session, machine: Host, index: int) -> str:
    """Return the PCI address of an unused GPU, or its index if it is silent. Raises VaultCubeError if it is in use."""
    cards = session.each(_use)
    if not 0 <= index < len(cards):
        raise VaultCubeError(f"gpu.reset: there is no GPU {index}: the driver lists {len(cards)}")
    card = cards[index]
    users = [
        f"{known['name'] if (known := host.process(machine, process['pid'])) else 'pid'} {process['pid']}"
        for process in card.get("processes", ())
    ]
    if users:
        raise VaultCubeError(f"gpu.reset: GPU {index} is used by {', '.join(users)}: end it first")
    return str(card.get("bus_id", index))


def _run(active: Sequence[str], words: list[str], result: Reset) -> None:
    """Run the reset with the active units stopped, and add its outcome to the result."""
    stopped: list[str] = []
    try:
        for unit in active:
            ran = command(["systemctl", "stop", unit], UNIT_S)
            if ran.returncode:
                raise VaultCubeError(f"gpu.reset: {unit} does not stop: {last_line(ran.stderr)}")
            stopped.append(unit)
        ran = command(words, RESET_S)
    finally:
        failed = [unit for unit in reversed(stopped) if command(["systemctl", "start", unit], UNIT_S).returncode]
    result |= {"reset": ran.returncode == 0, "message": last_line(ran.stdout + ran.stderr)}
    if ran.returncode:
        result["todo"] = "`fuser -v /dev/nvidia*` shows who holds it (a container, a display); else reboot"
    if failed:
        result["not_started"] = failed


def _use(device: Device) -> Card:
    pci = device.ask("nvmlDeviceGetPciInfo")
    card: Card = present(bus_id=None if pci is None else text(pci.busId), processes=readings.processes(device))
    return card
