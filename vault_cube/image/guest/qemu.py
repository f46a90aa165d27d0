"""QEMU's programs and command line: those of this machine, or those of the tools tree, run in place."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.guest.seed import LABEL, Seed

OVMF = "usr/share/OVMF"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Qemu:
    """How to run QEMU's programs, and where its firmware is."""

    system: Sequence[str]
    """Command words that run qemu-system-x86_64."""
    image: Sequence[str]
    """Command words that run qemu-img."""
    code: Path
    """OVMF's code."""
    variables: Path
    """OVMF's empty variables; each guest gets a copy."""
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_host(cls) -> Qemu:
        """Use this machine's QEMU. Raises VaultCubeError if QEMU or OVMF is missing."""
        for program in ("qemu-system-x86_64", "qemu-img"):
            process.required(program, "qemu-system-x86 and qemu-utils")
        return cls(("qemu-system-x86_64",), ("qemu-img",), *_firmware(Path("/")))

    @classmethod
    def of_tree(cls, tree: Path) -> Qemu:
        """Use the locked QEMU of a tools tree. Raises VaultCubeError if QEMU or OVMF is missing.

        The tree's own dynamic loader starts it with the tree's libraries, not in a chroot. So it uses the paths,
        /dev/kvm and network of this machine, receives signals, and needs no mounts.
        """
        libraries = tree / LIBRARIES
        loader = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
        for program in ("qemu-system-x86_64", "qemu-img"):
            if not (tree / "usr/bin" / program).exists():
                raise VaultCubeError(f"{tree}: no {program}: add its package to image:tools:packages")
        return cls(
            (*loader, str(tree / "usr/bin/qemu-system-x86_64"), "-L", str(tree / "usr/share/qemu")),
            (*loader, str(tree / "usr/bin/qemu-img")),
            *_firmware(tree),
            environment={"QEMU_MODULE_DIR": str(libraries / "qemu")},
        )


def _firmware(root: Path) -> tuple[Path, Path]:
    code, variables = root / OVMF / "OVMF_CODE_4M.fd", root / OVMF / "OVMF_VARS_4M.fd"
    if not code.exists() or not variables.exists():
        raise VaultCubeError(f"{code}: the UEFI firmware or its variables file is missing: install ovmf")
    return code, variables


@dataclass(frozen=True)
class Hardware:
    """The virtual hardware of a guest."""

    memory_mib: int
    cpus: int
    growth_gib: int
    """Difference between the sizes of the guest's disk and of the image; the root file system grows into it."""

    @classmethod
    def of_this_machine(cls) -> Hardware:
        """Choose hardware for this machine: up to 4 processors and 4 GiB, at most half of the machine's memory."""
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        return cls(memory_mib=min(4096, physical // 2), cpus=min(4, os.cpu_count() or 1), growth_gib=8)


@dataclass(frozen=True)
class Run:
    """The files and ports of one start of a guest."""

    disk: Path
    variables: Path
    console: Path
    """Log of the serial console."""
    qmp: Path
    """Socket of QEMU's monitor."""
    port: int
    """Port of 127.0.0.1 that is forwarded to the guest's sshd."""
    seed: Seed
    own_network: bool = False
    """Connect the guest to BRIDGE in QEMU's network namespace, and to nothing else."""
    devices: Sequence[str] = ()
    """Further words of QEMU's command line, such as those of a second disk."""


NETWORK = "10.0.2.0/24"
"""QEMU's user network."""
GUEST = "10.0.2.15"
"""The guest's address, assigned by the DHCP server of the user network."""
BRIDGE, GUEST_TAP, USER_TAP = "outside", "tap-guest", "tap-user"


def command(qemu: Qemu, hardware: Hardware, run: Run, accelerator: str) -> list[str]:
    """Build the command line of a guest. accelerator: kvm or tcg."""
    # "max" has all features that TCG can emulate; "host" is this machine's processor
    cpu, accel = ("host", "kvm") if accelerator == "kvm" else ("max", "tcg,thread=multi")
    line = [
        *qemu.system,
        *("-machine", "q35", "-accel", accel, "-cpu", cpu),
        *("-smp", str(hardware.cpus), "-m", str(hardware.memory_mib)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "none"),
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_escaped(qemu.code)}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={_escaped(run.variables)}"),
        *("-drive", f"if=virtio,format=qcow2,cache=unsafe,discard=unmap,file={_escaped(run.disk)}"),
        *("-drive", f"if=virtio,driver=vvfat,read-only=on,label={LABEL},dir={_escaped(run.seed.folder)}"),
        *("-device", "virtio-rng-pci"),
        *("-serial", f"file:{run.console}"),
        *("-qmp", f"unix:{run.qmp},server=on,wait=off"),
        *run.devices,
    ]
    if accelerator == "tcg":
        # on a busy machine the emulated timer fires too late for Linux's timer check, and the kernel panics; the boot
        # file's stub reads this extra command line from the firmware's tables, so the image needs no change
        line += ["-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=no_timer_check"]
    forward = f"user,id=user,net={NETWORK},hostfwd=tcp:127.0.0.1:{run.port}-{GUEST}:{run.seed.port}"
    if not run.own_network:
        return [*line, "-netdev", forward, "-device", "virtio-net-pci,netdev=user,romfile="]
    # From the bridge any address of the subnet can reach all ports of the guest. The user network is on the bridge too:
    # it answers DHCP and forwards our ssh. On the same hub as the guest it would answer in place of the guest.
    return [
        *line,
        *("-netdev", f"{forward},restrict=on", "-netdev", "hubport,id=port0,hubid=0,netdev=user"),
        *("-netdev", f"tap,id=user-tap,ifname={USER_TAP},script=no,downscript=no"),
        *("-netdev", "hubport,id=port1,hubid=0,netdev=user-tap"),
        *("-netdev", f"tap,id=guest,ifname={GUEST_TAP},script=no,downscript=no"),
        *("-device", "virtio-net-pci,netdev=guest,romfile="),
    ]


def _escaped(path: Path) -> str:
    """Escape a path for one of QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


@dataclass(frozen=True)
class Disk:
    """Format and size of an image, from its header."""

    form: str
    """Format of the image: qcow2 or raw."""
    size: int
    """Size of the virtual disk, in bytes."""

    @classmethod
    def of(cls, image: Path) -> Disk:
        """Read an image's header. Raises VaultCubeError if the file does not exist."""
        if not image.is_file():
            raise VaultCubeError(f"{image}: no such image: run `make image` to build one")
        with image.open("rb") as opened:
            header = opened.read(32)
        # magic, and the virtual size as a big-endian 64-bit number at byte 24: QEMU's docs/interop/qcow2.txt
        if header[:4] == b"QFI\xfb":
            return cls("qcow2", int.from_bytes(header[24:32], "big"))
        return cls("raw", image.stat().st_size)

    def grown(self, hardware: Hardware) -> int:
        """Return the size of a guest's disk, in bytes."""
        return self.size + (hardware.growth_gib << 30)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which no program listens at this time."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
