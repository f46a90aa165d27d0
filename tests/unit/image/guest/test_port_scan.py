"""The port scan finds listening ports, and no others."""

import json
import socket
import subprocess
import sys

import pytest

from vault_cube.image.guest import port_scan


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_listening_ports_are_found(family, address):
    with socket.socket(family) as first, socket.socket(family) as second, socket.socket(family) as closed:
        for each in (first, second, closed):
            try:
                each.bind((address, 0))
            except OSError:
                pytest.skip(f"this machine has no address {address}")
        first.listen()
        second.listen()
        ports = [each.getsockname()[1] for each in (first, second, closed)]
        assert port_scan.open_ports(address, ports, wait_s=1) == sorted(ports[:2])


def test_a_scan_in_batches_finds_the_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        around = range(max(1, port - 40), min(65535, port + 40) + 1)
        assert port in port_scan.open_ports("127.0.0.1", around, at_once=7, wait_s=0.5)


def test_port_ranges_are_expanded():
    assert port_scan.parse(["22", "8000-8003"]) == [22, 8000, 8001, 8002, 8003]


def test_the_program_runs_without_the_package(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        words = [sys.executable, "-I", port_scan.__file__, "127.0.0.1", port]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=True)
        assert json.loads(done.stdout) == [int(port)]
