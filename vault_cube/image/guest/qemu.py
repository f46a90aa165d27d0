"""QEMU's programs and command line: this machine's own, or those of the tools tree run where they lie."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest.seed import LABEL, Seed

OVMF = "usr/share/OVMF"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Qemu:
    """Where QEMU is and how it is called."""

    system: Sequence[str]
    image: Sequence[str]
    code: Path
    """OVMF's code"""
    variables: Path
    """OVMF's empty variables, to be copied"""
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_host(cls) -> Qemu:
        """This machine's QEMU. Raises VaultCubeError when it or OVMF is missing."""
        for program in ("qemu-system-x86_64", "qemu-img"):
            if not shutil.which(program):
                raise VaultCubeError(f"{program} is missing: install qemu-system-x86 and qemu-utils")
        return cls(("qemu-system-x86_64",), ("qemu-img",), *_firmware(Path("/")))

    @classmethod
    def of_tree(cls, tree: Path) -> Qemu:
        """The pinned QEMU of a tools tree.

        It is started by the tree's own loader with the tree's libraries, not in a chroot: paths, /dev/kvm, the network
        and signals are this machine's, with nothing to mount and so nothing to unmount.
        """
        libraries = tree / LIBRARIES
        loader = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
        for program in ("qemu-system-x86_64", "qemu-img"):
            if not (tree / "usr/bin" / program).exists():
                raise VaultCubeError(f"{tree}: no {program}; add its package to image:tools:packages")
        return cls(
            (*loader, str(tree / "usr/bin/qemu-system-x86_64"), "-L", str(tree / "usr/share/qemu")),
            (*loader, str(tree / "usr/bin/qemu-img")),
            *_firmware(tree),
            environment={"QEMU_MODULE_DIR": str(libraries / "qemu")},
        )


def _firmware(root: Path) -> tuple[Path, Path]:
    code, variables = root / OVMF / "OVMF_CODE_4M.fd", root / OVMF / "OVMF_VARS_4M.fd"
    if not code.exists() or not variables.exists():
        raise VaultCubeError(f"{code}: no UEFI firmware there: install ovmf")
    return code, variables


@dataclass(frozen=True)
class Hardware:
    """What a guest is given."""

    memory_mib: int
    cpus: int
    growth_gib: int
    """how much larger than the image the guest's disk is; the root file system grows into it"""

    @classmethod
    def of_this_machine(cls) -> Hardware:
        """What this machine can spare: up to 4 processors, up to 4 GiB, never more than half of its memory."""
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        return cls(memory_mib=min(4096, physical // 2), cpus=min(4, os.cpu_count() or 1), growth_gib=8)


@dataclass(frozen=True)
class Run:
    """One start of a guest: its files and its way in."""

    disk: Path
    variables: Path
    console: Path
    """the serial console's log"""
    qmp: Path
    port: int
    """of 127.0.0.1, leads to the guest's ssh"""
    seed: Seed
    own_network: bool = False
    """join BRIDGE of the network namespace that QEMU is started in, and reach nothing but it"""


NETWORK = "10.0.2.0/24"
"""QEMU's user network; it gives the guest GUEST by DHCP"""
GUEST = "10.0.2.15"
BRIDGE, GUEST_TAP, USER_TAP = "outside", "tap-guest", "tap-user"


def command(qemu: Qemu, hardware: Hardware, run: Run, accelerator: str) -> list[str]:
    """The command line of a guest. accelerator: kvm or tcg."""
    # "max" is all that TCG can emulate; under KVM the processor itself
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
    ]
    if accelerator == "tcg":
        # an emulated timer on a busy machine comes too late for Linux's check, which then panics; the boot file's stub
        # takes this from the firmware's tables, and the image stays as it is
        line += ["-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=no_timer_check"]
    forward = f"user,id=user,net={NETWORK},hostfwd=tcp:127.0.0.1:{run.port}-{GUEST}:{run.seed.port}"
    if not run.own_network:
        return [*line, "-netdev", forward, "-device", "virtio-net-pci,netdev=user,romfile="]
    # The bridge lets any address of the subnet look at all ports of the guest. The user network is on it, too: it
    # answers DHCP and carries our own ssh. On a hub with the guest it would answer in the guest's place.
    return [
        *line,
        *("-netdev", f"{forward},restrict=on", "-netdev", "hubport,id=port0,hubid=0,netdev=user"),
        *("-netdev", f"tap,id=user-tap,ifname={USER_TAP},script=no,downscript=no"),
        *("-netdev", "hubport,id=port1,hubid=0,netdev=user-tap"),
        *("-netdev", f"tap,id=guest,ifname={GUEST_TAP},script=no,downscript=no"),
        *("-device", "virtio-net-pci,netdev=guest,romfile="),
    ]


def _escaped(path: Path) -> str:
    """A path as a value in one of QEMU's comma lists."""
    return str(path).replace(",", ",,")


@dataclass(frozen=True)
class Disk:
    """What an image says of itself."""

    form: str
    """qcow2 or raw"""
    size: int
    """as a guest sees it, bytes"""

    @classmethod
    def of(cls, image: Path) -> Disk:
        """Read an image's header. Raises VaultCubeError when there is no such file."""
        if not image.is_file():
            raise VaultCubeError(f"{image}: no such image; `make image` makes one")
        with image.open("rb") as opened:
            header = opened.read(32)
        # magic, and the virtual size as a big-endian 64-bit number at byte 24: QEMU's docs/interop/qcow2.txt
        if header[:4] == b"QFI\xfb":
            return cls("qcow2", int.from_bytes(header[24:32], "big"))
        return cls("raw", image.stat().st_size)

    def grown(self, hardware: Hardware) -> int:
        """The size of a guest's disk, bytes."""
        return self.size + (hardware.growth_gib << 30)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
