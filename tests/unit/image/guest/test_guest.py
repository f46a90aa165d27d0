"""Starting and stopping a guest: the result of the KVM probe, and that no process and no file is left.

Tests that need no virtual machine run a shell script in place of QEMU.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.guest import machine
from vault_cube.image.guest.qemu import Hardware, Qemu, Run
from vault_cube.image.guest.seed import Seed

HARDWARE = Hardware(memory_mib=64, cpus=1, growth_gib=1)


def unexpected_probe():
    raise AssertionError("the probe was run")


def test_without_a_kvm_device_tcg_is_chosen_without_a_probe(tmp_path):
    assert machine.choose_accelerator(tmp_path / "kvm", unexpected_probe) == "tcg"


@pytest.mark.parametrize(("lives", "chosen"), [(True, "kvm"), (False, "tcg")])
def test_kvm_is_chosen_only_if_a_guest_boots_under_it(tmp_path, lives, chosen):
    device = tmp_path / "kvm"
    device.touch()
    assert machine.choose_accelerator(device, lambda: lives) == chosen


LATE = 'sleep 5; echo "[ 0.0] Linux version 6.1" >>"$1"; sleep 60'
"""A kernel that prints after the guest should have been rejected."""


def kernel_speaks(script, tmp_path, silence_s=1, kernel_s=60):
    console = tmp_path / "console"
    console.touch()
    process = subprocess.Popen(["sh", "-c", script, "sh", str(console)], start_new_session=True)
    try:
        return machine.kernel_speaks(process, console, silence_s, kernel_s)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_guest_whose_kernel_prints_is_accepted(tmp_path):
    assert kernel_speaks('echo BdsDxe >"$1"; sleep 1.5; echo "[ 0.0] Linux version 6.1" >>"$1"; sleep 60', tmp_path)


def test_a_guest_without_output_is_rejected_early(tmp_path):
    assert not kernel_speaks(LATE, tmp_path)


def test_a_guest_that_hangs_in_its_firmware_is_rejected(tmp_path):
    assert not kernel_speaks(f'echo BdsDxe >"$1"; {LATE}', tmp_path, kernel_s=2)


def test_a_qemu_that_exits_is_rejected_at_once(tmp_path):
    assert not kernel_speaks(f'({LATE}) & echo "Could not access KVM" >"$1"; exit 1', tmp_path, silence_s=60)


@pytest.fixture
def fake(tmp_path):
    """A Qemu whose programs are scripts: qemu-img writes its arguments, the machine its process ID, and then sleeps."""
    machine, image = tmp_path / "machine", tmp_path / "qemu-img"
    machine.write_text(f'#!/bin/sh\necho $$ >>{tmp_path}/pids\necho "qemu: going nowhere" >&2\nexec sleep 300\n')
    image.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/qemu-img.arguments\n')
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


def test_the_image_is_a_backing_file_and_does_not_change(fake, tmp_path):
    before = (tmp_path / "box.qcow2").read_bytes()
    with machine.guest(tmp_path / "box.qcow2", key_of(tmp_path), fake, HARDWARE, accelerator="tcg") as box:
        arguments = (tmp_path / "qemu-img.arguments").read_text()
        assert f"-F qcow2 -b {tmp_path / 'box.qcow2'} {box.work / 'disk.qcow2'} {3 << 30}" in arguments
        assert str(box.run.disk) != str(tmp_path / "box.qcow2")
        pid = pid_of(tmp_path)
        work = box.work
    assert gone(pid)
    assert not work.exists()
    assert (tmp_path / "box.qcow2").read_bytes() == before


def test_a_raw_image_is_a_raw_backing_file(fake, tmp_path):
    (tmp_path / "box.raw").write_bytes(bytes(1024))
    with machine.guest(tmp_path / "box.raw", key_of(tmp_path), fake, HARDWARE, accelerator="tcg"):
        arguments = (tmp_path / "qemu-img.arguments").read_text()
        assert "-F raw -b" in arguments
        assert arguments.endswith(f" {1024 + (1 << 30)}\n")


def test_an_error_in_the_block_kills_the_guest(fake, tmp_path):
    pids = []

    def fail():
        with machine.guest(tmp_path / "box.qcow2", key_of(tmp_path), fake, HARDWARE, accelerator="tcg"):
            pids.append(pid_of(tmp_path))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert gone(pids[0])


def test_a_missing_image_is_reported_in_one_line(fake, tmp_path):
    with (
        pytest.raises(VaultCubeError, match=r"absent\.qcow2: no such image: run `make image` to build one"),
        machine.guest(tmp_path / "absent.qcow2", key_of(tmp_path), fake, HARDWARE),
    ):
        pass


def test_the_error_for_an_exited_qemu_has_its_output(fake, tmp_path):
    Path(fake.system[0]).write_text("#!/bin/sh\necho 'qemu: no such machine' >&2\nexit 3\n")
    with (
        machine.guest(tmp_path / "box.qcow2", key_of(tmp_path), fake, HARDWARE, accelerator="tcg") as box,
        pytest.raises(VaultCubeError, match="QEMU ended with status 3: qemu: no such machine"),
    ):
        box.wait_for_ssh(30)


STALLS = [
    "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
    "rcu: INFO: rcu_preempt self-detected stall on CPU",
    "rcu: rcu_sched kthread starved for 5251 jiffies! g2789 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x402 ->cpu=1",
]


def waiting(tmp_path, monkeypatch, accelerator, line, answers=False):
    """Wait for ssh of a guest whose console has one line."""
    monkeypatch.setattr(machine, "STALLED_S", 0.0)
    monkeypatch.setattr(machine.time, "sleep", lambda seconds: None)

    def ssh(self, remote, **_):
        if not answers:
            raise VaultCubeError("no answer")

    monkeypatch.setattr(machine.Guest, "ssh", ssh)
    run = Run(tmp_path, tmp_path, tmp_path / "console", tmp_path, 1, key_of(tmp_path))
    run.console.write_text(f"[  424.833847] {line}\n")
    alive = SimpleNamespace(poll=lambda: None)
    return machine.Guest(alive, run, run.seed, accelerator, tmp_path).wait_for_ssh(0.3)


@pytest.mark.parametrize("line", STALLS)
def test_an_emulated_guest_that_reports_a_stall_and_does_not_recover_has_stalled(tmp_path, monkeypatch, line):
    with pytest.raises(machine.StalledError, match="the emulated guest stalled while it booted"):
        waiting(tmp_path, monkeypatch, "tcg", line)


@pytest.mark.parametrize(
    ("accelerator", "line"),
    [("kvm", STALLS[0]), ("tcg", "rcu: Hierarchical SRCU implementation."), ("tcg", "Booting Linux")],
)
def test_other_guests_that_do_not_answer_have_not_stalled(tmp_path, monkeypatch, accelerator, line):
    with pytest.raises(VaultCubeError, match="no ssh login within") as raised:
        waiting(tmp_path, monkeypatch, accelerator, line)
    assert not isinstance(raised.value, machine.StalledError)


def test_a_guest_that_recovers_from_a_stall_has_booted(tmp_path, monkeypatch):
    assert waiting(tmp_path, monkeypatch, "tcg", STALLS[0], answers=True) < 10


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
    os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="a network namespace needs root and /dev/net/tun"
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


INTERACTIVE = """
import sys
from pathlib import Path
from vault_cube.image.guest import machine
from vault_cube.image.guest.qemu import Hardware, Qemu
top = Path(sys.argv[1])
fake = Qemu((str(top / "machine"),), (str(top / "qemu-img"),), top / "code.fd", top / "vars.fd")
machine.choose_accelerator = lambda *_: "tcg"
machine.boot(top / "box.qcow2", fake, Hardware(64, 1, 1), user="operator", port=22, console=top / "logs/console.log")
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_an_interactive_guest_and_nothing_is_left(fake, tmp_path, stop):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    words = [sys.executable, "-c", INTERACTIVE, str(tmp_path)]
    process = subprocess.Popen(words, env={**os.environ, "TMPDIR": str(temporary)}, stderr=subprocess.PIPE, text=True)
    try:
        pid = pid_of(tmp_path)
        process.send_signal(stop)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, stderr
    assert "stop" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert gone(pid)
    assert list(temporary.iterdir()) == []
    assert (tmp_path / "logs/console.log").exists()


def monitor(path, ready, lines):
    """A QMP server that sends a greeting, and an event before each answer, and appends each request to lines."""
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
def test_events_before_an_answer_of_the_monitor_are_skipped(tmp_path, command):
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
