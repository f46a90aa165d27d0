"""Starting and ending a guest: the KVM probe's decision, and that nothing survives. A shell script stands for QEMU
where no machine is needed: it takes QEMU's place in the command, and nothing else."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import machine
from vault_cube.image.guest.qemu import Hardware, Qemu
from vault_cube.image.guest.seed import Seed

HARDWARE = Hardware(memory_mib=64, cpus=1, growth_gib=1)


def asked():
    raise AssertionError("the probe was run")


def test_no_device_is_tcg_without_a_probe(tmp_path):
    assert machine.choose_accelerator(tmp_path / "kvm", asked) == "tcg"


@pytest.mark.parametrize(("lives", "chosen"), [(True, "kvm"), (False, "tcg")])
def test_a_device_that_opens_is_not_believed_before_a_guest_lives(tmp_path, lives, chosen):
    device = tmp_path / "kvm"
    device.touch()
    assert machine.choose_accelerator(device, lambda: lives) == chosen


def speaker(script, tmp_path):
    console = tmp_path / "console"
    console.touch()
    process = subprocess.Popen(["sh", "-c", script, "sh", str(console)], start_new_session=True)
    try:
        return machine.kernel_speaks(process, console, silence_s=1, kernel_s=3)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_kernel_that_speaks_lives(tmp_path):
    assert speaker('echo BdsDxe >"$1"; sleep 1.5; echo "[ 0.0] Linux version 6.1" >>"$1"; sleep 60', tmp_path)


def test_a_guest_that_says_nothing_is_given_up_early(tmp_path):
    started = time.monotonic()
    assert not speaker("sleep 60", tmp_path)
    assert time.monotonic() - started < 2.5


def test_a_guest_that_hangs_in_its_firmware_is_given_up(tmp_path):
    assert not speaker('echo BdsDxe >"$1"; sleep 60', tmp_path)


def test_a_qemu_that_dies_does_not_live(tmp_path):
    started = time.monotonic()
    assert not speaker('echo "Could not access KVM" >"$1"; exit 1', tmp_path)
    assert time.monotonic() - started < 2


@pytest.fixture
def fake(tmp_path):
    """A Qemu whose programs are scripts: qemu-img writes nothing, the machine sleeps and notes its process id."""
    machine, image = tmp_path / "machine", tmp_path / "qemu-img"
    machine.write_text(f'#!/bin/sh\necho $$ >>{tmp_path}/pids\necho "qemu: going nowhere" >&2\nexec sleep 300\n')
    image.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/qemu-img.said\n')
    for script in (machine, image):
        script.chmod(0o755)
    (tmp_path / "vars.fd").touch()
    (tmp_path / "box.qcow2").write_bytes(b"QFI\xfb" + bytes(20) + (2 << 30).to_bytes(8, "big"))
    (tmp_path / "seed").mkdir()
    return Qemu((str(machine),), (str(image),), tmp_path / "code.fd", tmp_path / "vars.fd")


def key_of(tmp_path):
    return Seed(tmp_path / "seed", tmp_path / "key", "operator", 22)


def pid_of(tmp_path, timeout_s=10):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().strip():
            return int((tmp_path / "pids").read_text().split()[-1])
        time.sleep(0.05)
    raise AssertionError("the machine did not start")


def gone(pid, timeout_s=5):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False


def test_the_image_is_only_a_backing_file(fake, tmp_path):
    before = (tmp_path / "box.qcow2").read_bytes()
    with machine.guest(tmp_path / "box.qcow2", key_of(tmp_path), fake, HARDWARE, accelerator="tcg") as box:
        said = (tmp_path / "qemu-img.said").read_text()
        assert f"-F qcow2 -b {tmp_path / 'box.qcow2'} {box.work / 'disk.qcow2'} {3 << 30}" in said
        assert str(box.run.disk) != str(tmp_path / "box.qcow2")
        pid = pid_of(tmp_path)
        work = box.work
    assert gone(pid)
    assert not work.exists()
    assert (tmp_path / "box.qcow2").read_bytes() == before


def test_a_raw_image_is_backed_as_raw(fake, tmp_path):
    (tmp_path / "box.raw").write_bytes(bytes(1024))
    with machine.guest(tmp_path / "box.raw", key_of(tmp_path), fake, HARDWARE, accelerator="tcg"):
        said = (tmp_path / "qemu-img.said").read_text()
        assert "-F raw -b" in said
        assert said.endswith(f" {1024 + (1 << 30)}\n")


def test_an_error_in_the_block_ends_the_guest(fake, tmp_path):
    pids = []

    def fail():
        with machine.guest(tmp_path / "box.qcow2", key_of(tmp_path), fake, HARDWARE, accelerator="tcg"):
            pids.append(pid_of(tmp_path))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert gone(pids[0])


def test_no_image_is_said_in_one_line(fake, tmp_path):
    with (
        pytest.raises(VaultCubeError, match=r"absent\.qcow2: no such image; `make image` makes one"),
        machine.guest(tmp_path / "absent.qcow2", key_of(tmp_path), fake, HARDWARE),
    ):
        pass


def test_a_qemu_that_ends_is_told_with_what_it_said(fake, tmp_path):
    Path(fake.system[0]).write_text("#!/bin/sh\necho 'qemu: no such machine' >&2\nexit 3\n")
    with (
        machine.guest(tmp_path / "box.qcow2", key_of(tmp_path), fake, HARDWARE, accelerator="tcg") as box,
        pytest.raises(VaultCubeError, match="QEMU ended with status 3: qemu: no such machine"),
    ):
        box.wait_for_ssh(30)


CHILD = """
import sys, time
from pathlib import Path
from vault_cube.image.guest import machine
from vault_cube.image.guest.qemu import Hardware, Qemu
from vault_cube.image.guest.seed import Seed
top = Path(sys.argv[1])
fake = Qemu((str(top / "machine"),), (str(top / "qemu-img"),), top / "code.fd", top / "vars.fd")
key = Seed(top / "seed", top / "key", "operator", 22)
own = len(sys.argv) > 2
with machine.guest(top / "box.qcow2", key, fake, Hardware(64, 1, 1), accelerator="tcg", own_network=own):
    time.sleep(300)
"""


@pytest.mark.parametrize("network", ["shared", pytest.param("own", marks=pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="a network of its own needs root and /dev/net/tun"
))])  # fmt: skip
def test_qemu_does_not_outlive_a_killed_parent(fake, tmp_path, network):
    words = [sys.executable, "-c", CHILD, str(tmp_path), *(["own"] if network == "own" else [])]
    parent = subprocess.Popen(words, env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        pid = pid_of(tmp_path)
        assert not gone(pid, 0.2)
    finally:
        parent.kill()
        parent.wait()
    assert gone(pid)


PERSON = """
import sys
from pathlib import Path
from vault_cube.image.guest import machine
from vault_cube.image.guest.qemu import Hardware, Qemu
top = Path(sys.argv[1])
fake = Qemu((str(top / "machine"),), (str(top / "qemu-img"),), top / "code.fd", top / "vars.fd")
machine.choose_accelerator = lambda *_: "tcg"
machine.boot(top / "box.qcow2", fake, Hardware(64, 1, 1), user="operator", port=22, console=top / "logs/console.log")
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_person_stops_a_guest_and_nothing_is_left(fake, tmp_path, how):
    rest = tmp_path / "tmp"
    rest.mkdir()
    words = [sys.executable, "-c", PERSON, str(tmp_path)]
    person = subprocess.Popen(words, env={**os.environ, "TMPDIR": str(rest)}, stderr=subprocess.PIPE, text=True)
    try:
        pid = pid_of(tmp_path)
        person.send_signal(how)
        _, said = person.communicate(timeout=30)
    finally:
        person.kill()
        person.wait()
    assert person.returncode == 0, said
    assert "stop" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert gone(pid)
    assert list(rest.iterdir()) == []
    assert (tmp_path / "logs/console.log").exists()


def monitor(path, ready, lines):
    """A QMP server that greets, sends an event before each answer, and notes what it was asked."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        ready.set()
        connection, _ = server.accept()
        with connection, connection.makefile("rw") as stream:
            stream.write('{"QMP": {}}\n')
            stream.flush()
            for line in stream:
                lines.append(line)
                stream.write('{"event": "RTC_CHANGE"}\n')
                wrong = "no_such" in line
                stream.write('{"error": {"desc": "unknown command"}}\n' if wrong else '{"return": {"status": "ok"}}\n')
                stream.flush()


@pytest.mark.parametrize("command", ["query-status", "no_such"])
def test_the_monitor_is_asked_past_its_events(tmp_path, command):
    lines, ready = [], threading.Event()
    thread = threading.Thread(target=monitor, args=(tmp_path / "qmp", ready, lines), daemon=True)
    thread.start()
    assert ready.wait(5)
    if command == "no_such":
        with pytest.raises(ValueError, match="unknown command"):
            machine.qmp(tmp_path / "qmp", command)
    else:
        assert machine.qmp(tmp_path / "qmp", command) == {"status": "ok"}
    thread.join(5)
    assert [line.count("qmp_capabilities") for line in lines] == [1, 0]
