"""Training over several boxes: where the processes of torchrun meet, and over which network interface they talk."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from vault_cube.errors import VaultCubeError
from vault_cube.settings.benchmark import Together

SIOCGIFADDR = 0x8915  # linux/sockios.h
MOST = 256
"""Largest number of boxes."""


class Rendezvous(NamedTuple):
    """The place where torchrun's processes of all boxes meet (backend c10d, torch.distributed.elastic)."""

    boxes: int
    """How many boxes train together."""
    address: str
    """IPv4 address of the box that keeps the store by which the others find each other."""
    port: int
    wait_s: int
    """How long the first box waits for the last one."""
    own: str
    """This box's address on the network that leads there."""
    interface: str
    """The network interface that has it."""

    @property
    def arguments(self) -> list[str]:
        """Return the options of torchrun, without the number of processes."""
        host = "1" if self.own == self.address else "0"
        waits = f"join_timeout={self.wait_s},read_timeout={self.wait_s}"
        return [
            "--nnodes", f"{self.boxes}", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{self.address}:{self.port}",
            "--rdzv-conf", f"is_host={host},{waits}", "--local-addr", self.own,
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that keep gloo and NCCL on the interface; `=` asks NCCL for the exact name."""
        return {"GLOO_SOCKET_IFNAME": self.interface, "NCCL_SOCKET_IFNAME": f"={self.interface}"}

    def why(self, reason: str) -> str:
        """Return the reason for a run in which no process began to work, with what to do about it."""
        return (
            f"{self.boxes} boxes did not meet at {self.address} port {self.port} within {self.wait_s} s: run the same "
            f"command on each of them, with the same kind of accelerator, and let their firewalls admit each other "
            f"({reason[:150]})"
        )


def asked(settings: Together, boxes: int | None, rendezvous: str | None, suites: Sequence[str]) -> Rendezvous | None:
    """Return where boxes meet; None for a benchmark of this box alone. Raises VaultCubeError.

    boxes: number of boxes. rendezvous: name or IPv4 address of one of them. suites: the names that were asked for.
    """
    if boxes is None and rendezvous is None:
        return None
    if boxes is None or rendezvous is None:
        raise VaultCubeError("gpu.benchmark: boxes and rendezvous belong together: give both, on each box the same")
    if not isinstance(boxes, int) or isinstance(boxes, bool) or not 2 <= boxes <= MOST:
        raise VaultCubeError(f"boxes: {str(boxes)[:40]}: give a number from 2 to {MOST}")
    if list(suites) != ["ddp"]:
        raise VaultCubeError("gpu.benchmark: several boxes train together in the suite ddp only: add suite=ddp")
    address = _resolved(rendezvous)
    own = own_address(address)
    return Rendezvous(boxes, address, settings.port, settings.wait_s, own, interface_of(own))


def _resolved(host: str) -> str:
    try:
        answers = socket.getaddrinfo(str(host), None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as err:
        reason = getattr(err, "strerror", None) or err
        raise VaultCubeError(f"rendezvous: {str(host)[:80]}: no IPv4 address: {reason}") from err
    return str(answers[0][4][0])


def own_address(address: str) -> str:
    """Return this machine's address on the way to another one; nothing is sent. Raises VaultCubeError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError as err:
            raise VaultCubeError(f"rendezvous: {address}: {err.strerror}: check this box's network") from err
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str:
    """Return the name of the network interface that has an IPv4 address. Raises VaultCubeError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                # struct ifreq: 16 bytes of name, then sockaddr_in, whose address begins at byte 4
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
            except OSError:  # it has no IPv4 address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    raise VaultCubeError(f"{address}: is a second address of an interface: give the rendezvous by its first one")
