"""gpu.monitor over the fake NVML: once for a pipe, and living in a real (pseudo) terminal."""

import fcntl
import json
import os
import pty
import select
import subprocess
import termios
import time

import pytest
import yaml
from copied import TOP

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.show import monitor

ALERTS = yaml.safe_load((TOP / "pillar/box.sls").read_text())["validation"]["monitoring"]["alerts"]


@pytest.fixture
def session():
    with Session(2) as opened:
        yield opened


def line_of(text, gpu):
    return next(line for line in text.splitlines()[1:] if line.split()[:1] == [str(gpu)])


def test_four_gpus_at_rest(nvml, session):
    evidence = monitor.text(monitor.once(session))
    assert "4 x NVIDIA GeForce RTX 5090, driver 580.95.05" in evidence
    assert "simulated: true" in evidence
    assert line_of(evidence, 2).split()[-1] == "idle"
    assert "480/32607 MiB" in line_of(evidence, 2)
    assert "24/575" in line_of(evidence, 2)
    assert evidence.endswith("no process")


def test_why_a_gpu_is_slow_stands_beside_it(nvml, session):
    nvml.gpu(1, throttle=0x24, temperature={0: 84}, utilisation={"gpu": 97}, power_mw=574_000)
    line = line_of(monitor.text(monitor.once(session)), 1)
    assert line.endswith("sw_power_cap sw_thermal_slowdown")
    assert "██████████  97%" in line
    assert " 84 " in line


def test_a_lost_gpu_has_its_line_and_the_others_go_on(nvml, session):
    nvml.gpu(3, error=15)
    evidence = monitor.text(monitor.once(session))
    assert "lost" in line_of(evidence, 3)
    assert line_of(evidence, 0).endswith("idle")


def test_without_a_driver_one_line(session, monkeypatch):
    monkeypatch.setattr("vault_cube.gpu.nvml.failures.LIBRARY", "libnvidia-ml-nowhere.so.1")
    evidence = monitor.text(monitor.once(session))
    assert evidence == "no NVIDIA driver is installed (libnvidia-ml-nowhere.so.1 is missing); on a box with a GPU: " + (
        "`salt-call --local state.apply driver`"
    )
    assert monitor.text(monitor.live(session, ALERTS, 0.1)) == evidence


def test_processes_by_memory_with_where_they_run(nvml, session, tmp_path):
    for pid, name, group in ((7, "python", "/system.slice/vault-cube-vllm@0.service"), (9, "train", "/docker/abc")):
        folder = tmp_path / f"proc/{pid}"
        folder.mkdir(parents=True)
        (folder / "comm").write_text(name)
        (folder / "cgroup").write_text(f"0::{group}\n")
    nvml.gpu(0, compute_process={0: f"7 {300 << 20}", 1: f"9 {20000 << 20}"}, graphics_process={0: f"8 {5 << 20}"})
    view = monitor.look(session, facts(session), Host(tmp_path))
    assert [(entry["pid"], entry["name"], entry["where"], entry["kind"]) for entry in view["processes"]] == [
        (9, "train", "container", "compute"), (7, "python", "service", "compute"),
        (8, "?", "another namespace", "graphics"),
    ]  # fmt: skip
    last = monitor.text(view).splitlines()[-3:]
    assert [line.split()[:3] for line in last] == [["0", "9", "20000"], ["0", "7", "300"], ["0", "8", "5"]]
    nvml.gpu(1, compute_process={n: f"{100 + n} {1 << 20}" for n in range(20)})
    evidence = monitor.text(monitor.look(session, facts(session), Host(tmp_path)))
    assert "and 13 more" in evidence


def drive(nvml, words, until, keys=b"", change=None):
    """Run salt-call in a terminal of its own; type keys once `until` was shown. Returns (exit status, all output)."""
    leader, follower = pty.openpty()
    environment = {**os.environ, **nvml.environment, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    command = [TOP / ".venv/bin/salt-call", "--local", "--log-level=quiet", "gpu.monitor", *words]
    process = subprocess.Popen(
        command,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=TOP,
        env=environment,
        start_new_session=True,
        # the terminal is its own, so that Ctrl-C reaches it
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 there are no threads
    )
    os.close(follower)
    shown, end = b"", time.monotonic() + 90
    while time.monotonic() < end:
        if select.select([leader], [], [], 0.2)[0]:
            try:
                shown += os.read(leader, 65536)
            except OSError:
                break
        if until in shown and change:
            change()
            until, change = b"99", None
        elif until in shown and keys:
            os.write(leader, keys)
            keys = b""
        if process.poll() is not None and not select.select([leader], [], [], 0)[0]:
            break
    os.close(leader)  # the terminal is gone: what still runs ends now
    try:
        return process.wait(30), shown.decode(errors="replace")
    finally:
        process.kill()


def test_it_lives_in_a_terminal_until_q(nvml):
    status, shown = drive(nvml, ["every_s=0.2"], b"idle", b"q", lambda: nvml.gpu(0, temperature={0: 99}))
    assert status == 0
    assert "Traceback" not in shown
    # the other screen was entered and left, the cursor is back
    assert shown.count("\x1b[?1049h") == shown.count("\x1b[?1049l") == 1
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_ctrl_c_ends_it_well(nvml):
    status, shown = drive(nvml, ["every_s=0.2"], b"idle", b"\x03")
    assert status == 0
    assert "Traceback" not in shown


def test_once_is_a_table_or_data(nvml):
    environment = {**os.environ, **nvml.environment}
    call = [TOP / ".venv/bin/salt-call", "--local", "--log-level=quiet", "gpu.monitor", "once=True"]
    evidence = subprocess.run(call, capture_output=True, text=True, check=True, cwd=TOP, env=environment)
    assert "4 x NVIDIA GeForce RTX 5090" in evidence.stdout
    evidence = subprocess.run(
        [*call, "--out=json"], capture_output=True, text=True, check=True, cwd=TOP, env=environment
    )
    view = json.loads(evidence.stdout)["local"]
    assert [entry["temperature_c"] for entry in view["gpus"]] == [38] * 4
    assert view["simulated"] is True


def test_through_a_pipe_it_is_once(nvml):
    environment = {**os.environ, **nvml.environment}
    call = [TOP / ".venv/bin/salt-call", "--local", "--log-level=quiet", "gpu.monitor"]
    evidence = subprocess.run(call, capture_output=True, text=True, check=True, cwd=TOP, env=environment, timeout=60)
    assert "4 x NVIDIA GeForce RTX 5090" in evidence.stdout
    assert "\x1b" not in evidence.stdout
