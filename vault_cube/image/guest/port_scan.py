"""Scan the TCP ports of an address. This is a separate program, so that it can run inside a network namespace.

    python port_scan.py ADDRESS PORT[-PORT] [PORT[-PORT] …]     prints the open ports as a JSON list

It uses the standard library only and does not import this package.
"""

import errno
import json
import resource
import select
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

WAIT_S = 2.2
"""Time to wait for an answer, in seconds; the kernel retransmits a lost SYN after 1 s."""
AT_ONCE = 4096
"""Number of ports to connect to at the same time."""


def open_ports(address: str, ports: Sequence[int], at_once: int = AT_ONCE, wait_s: float = WAIT_S) -> list[int]:
    """Return those of the given ports that accept a connection, sorted.

    address: IPv4, or IPv6 with its zone (`fe80::1%tap0`). at_once: number of ports to connect to at the same time.
    wait_s: time to wait for an answer, in seconds.
    """
    family, *_, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
    accepted: list[int] = []
    for first in range(0, len(ports), at_once):
        accepted += _batch(family, place, ports[first : first + at_once], wait_s)
    return sorted(accepted)


def _batch(family: int, place: tuple[Any, ...], ports: Sequence[int], wait_s: float) -> list[int]:
    accepted: list[int] = []
    waiting: dict[int, tuple[socket.socket, int]] = {}
    poller = select.epoll()
    try:
        for port in ports:
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.setblocking(False)
            status = connection.connect_ex((place[0], port, *place[2:]))
            if status == errno.EINPROGRESS:
                waiting[connection.fileno()] = connection, port
                poller.register(connection.fileno(), select.EPOLLOUT)
                continue
            connection.close()
            if status == 0:
                accepted.append(port)
        until = time.monotonic() + wait_s
        while waiting and (left := until - time.monotonic()) > 0:
            for number, _ in poller.poll(left):
                connection, port = waiting.pop(number)
                poller.unregister(number)
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    accepted.append(port)
                connection.close()
    finally:
        poller.close()
        for connection, _ in waiting.values():
            connection.close()
    return accepted


def parse(words: Sequence[str]) -> list[int]:
    """Expand arguments such as `["22", "8000-8003"]` to a list of ports."""
    ports: list[int] = []
    for word in words:
        first, _, last = word.partition("-")
        ports += range(int(first), int(last or first) + 1)
    return ports


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(open_ports(sys.argv[1], parse(sys.argv[2:]), min(AT_ONCE, hard - 64))))
