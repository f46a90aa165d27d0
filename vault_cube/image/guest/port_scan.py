"""Which TCP ports of an address answer: a plain program, so that it can be run inside a network namespace.

    python scan.py ADDRESS PORT[-PORT] [PORT[-PORT] …]     prints the open ports as a JSON list

It stands alone: standard library only, no import of this package.
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
"""the kernel sends a lost SYN again after 1 s"""
AT_ONCE = 4096


def open_ports(address: str, ports: Sequence[int], at_once: int = AT_ONCE, wait_s: float = WAIT_S) -> list[int]:
    """The ports, of those given, that accept a connection.

    address: IPv4, or IPv6 with its zone (`fe80::1%tap0`). wait_s: how long a port may take to answer, s.
    """
    family, *_, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0]
    found: list[int] = []
    for first in range(0, len(ports), at_once):
        found += _batch(family, place, ports[first : first + at_once], wait_s)
    return sorted(found)


def _batch(family: int, place: tuple[Any, ...], ports: Sequence[int], wait_s: float) -> list[int]:
    found: list[int] = []
    waiting: dict[int, tuple[socket.socket, int]] = {}
    poller = select.epoll()
    try:
        for port in ports:
            trial = socket.socket(family, socket.SOCK_STREAM)
            trial.setblocking(False)
            status = trial.connect_ex((place[0], port, *place[2:]))
            if status == errno.EINPROGRESS:
                waiting[trial.fileno()] = trial, port
                poller.register(trial.fileno(), select.EPOLLOUT)
                continue
            trial.close()
            if status == 0:
                found.append(port)
        until = time.monotonic() + wait_s
        while waiting and (left := until - time.monotonic()) > 0:
            for number, _ in poller.poll(left):
                trial, port = waiting.pop(number)
                poller.unregister(number)
                if trial.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.append(port)
                trial.close()
    finally:
        poller.close()
        for trial, _ in waiting.values():
            trial.close()
    return found


def parse(words: Sequence[str]) -> list[int]:
    """`["22", "8000-8003"]` as the ports it names."""
    ports: list[int] = []
    for word in words:
        first, _, last = word.partition("-")
        ports += range(int(first), int(last or first) + 1)
    return ports


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(open_ports(sys.argv[1], parse(sys.argv[2:]), min(AT_ONCE, hard - 64))))
