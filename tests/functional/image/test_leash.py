"""A command in namespaces of its own dies with the builder, whenever that is killed, and leaves no mount."""

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
    """The processes whose command line holds a tag."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if tag.encode() in file.read_bytes().replace(b"\0", b" ") and int(file.parts[2]) != os.getpid():
                found.append(int(file.parts[2]))
        except OSError:
            continue
    return found


def gone(tag, within=30):
    deadline = time.monotonic() + within
    while alive(tag) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(tag)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_the_builder(sent):
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


def said(command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_does_not_start_when_the_builder_is_gone_already():
    """Between the fork and the wish to die with the parent there is a moment: who was orphaned in it must not go on."""
    command = [*chroot.unshare(False), "echo", "started"]
    # a process between us and the command has another id than the builder that the prefix was made for
    orphan = said(["sh", "-c", '"$@"; exit $?', "sh", *command])
    assert (orphan.returncode, orphan.stdout) == (1, "")
    assert said(command).stdout == "started\n"


def test_there_is_no_way_out():
    with socket.create_server(("127.0.0.1", 0)) as server:
        reach = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
        command = [sys.executable, "-c", reach, str(server.getsockname()[1])]
        assert said(command).returncode == 0
        assert "Network is unreachable" in said([*chroot.unshare(False), *command]).stderr
        assert said([*chroot.unshare(True), *command]).returncode == 0
