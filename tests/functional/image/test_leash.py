"""A command in its own namespaces is killed with the builder and leaves no mount."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vault_cube.image.layers import chroot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

BUILDER = """\
import subprocess, sys
from vault_cube.image.layers import chroot
subprocess.run([*chroot.unshare(False), "sh", "-c", "mount -t tmpfs tmpfs /mnt; echo up; exec sleep 1000.{tag}"])
"""


def alive(tag):
    """List the processes whose command line contains a tag."""
    processes = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if tag.encode() in file.read_bytes().replace(b"\0", b" ") and int(file.parts[2]) != os.getpid():
                processes.append(int(file.parts[2]))
        except OSError:
            continue
    return processes


def gone(tag, within=30):
    deadline = time.monotonic() + within
    while alive(tag) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(tag)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_is_killed_with_the_builder(sent):
    tag = f"{os.getpid()}{int(sent)}1"
    with subprocess.Popen(
        [sys.executable, "-c", BUILDER.replace("{tag}", tag)], stdout=subprocess.PIPE, text=True
    ) as builder:
        assert builder.stdout.readline() == "up\n"
        assert alive(f"sleep 1000.{tag}")
        builder.send_signal(sent)
        builder.wait()
        assert gone(f"sleep 1000.{tag}")
    assert " /mnt tmpfs" not in Path("/proc/self/mounts").read_text()


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_command_does_not_start_if_the_builder_has_already_ended():
    """A child that is orphaned between fork and PR_SET_PDEATHSIG must not continue."""
    command = [*chroot.unshare(False), "echo", "started"]
    # run through a shell, the command's parent is not the builder whose process ID the prefix contains
    orphan = run(["sh", "-c", '"$@"; exit $?', "sh", *command])
    assert (orphan.returncode, orphan.stdout) == (1, "")
    assert run(command).stdout == "started\n"


def test_a_command_has_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        reach = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
        command = [sys.executable, "-c", reach, str(server.getsockname()[1])]
        assert run(command).returncode == 0
        assert "Network is unreachable" in run([*chroot.unshare(False), *command]).stderr
        assert run([*chroot.unshare(True), *command]).returncode == 0
