"""The kernel's log: from the journal, else from the kernel's buffer; a log that cannot be read is not an empty one."""

import signal
import time
from pathlib import Path

import pytest

from vault_cube.gpu.read import kernel_log
from vault_cube.gpu.read.host import Host

LINE = "1764090351.250000 box kernel: NVRM: Xid (PCI:0000:51:00): 79, pid=1, GPU has fallen off the bus."


def journal(monkeypatch, out="", err="", status=0):
    script = f"printf '%s' \"$1\"; printf '%s' \"$2\" >&2; exit {status}"
    monkeypatch.setattr(kernel_log, "JOURNAL", ["sh", "-c", script, "sh", out, err])


@pytest.fixture
def buffer(monkeypatch):
    """What the kernel's own buffer has; None: it may not be read."""
    result = {"lines": None}
    monkeypatch.setattr(kernel_log, "_buffer", lambda: result["lines"])
    return result


def test_the_journal_is_read(monkeypatch, buffer):
    journal(monkeypatch, f"-- Boot 1 --\n{LINE}\n")
    result = kernel_log.xids(kernel_log.begin(Host()))
    assert [(entry["at"], entry["xid"], entry["bus_id"]) for entry in result] == [(1764090351.25, 79, "0000:51:00")]


@pytest.mark.parametrize("answer", [{"status": 1}, {"status": 1, "err": "No journal files were found."}])
def test_without_a_journal_the_buffer_is_read(monkeypatch, buffer, answer):
    journal(monkeypatch, **answer)
    assert kernel_log.xids(kernel_log.begin(Host())) is None
    buffer["lines"] = [(1.0, "NVRM: Xid (PCI:0000:51:00): 13, Graphics Exception")]
    assert [entry["xid"] for entry in kernel_log.xids(kernel_log.begin(Host()))] == [13]


def test_a_journal_that_hangs(monkeypatch, buffer):
    monkeypatch.setattr(kernel_log, "JOURNAL", ["sh", "-c", "exec sleep 60", "sh"])
    monkeypatch.setattr(kernel_log, "JOURNAL_S", 0.1)
    assert kernel_log.xids(kernel_log.begin(Host())) is None


def test_a_record_of_several_lines(monkeypatch, buffer):
    """journalctl gives the time once, and indents the other lines."""
    first = LINE.replace("Xid (PCI:0000:51:00): 79, pid=1, GPU has fallen off the bus.", "The NVIDIA GPU 0000:51:00.0")
    last = "NVRM: fallen off the bus and is not responding to commands."
    journal(
        monkeypatch, f"{first}\n{' ' * 25}NVRM: (PCI ID: 10de:2b85) installed in this system has\n{' ' * 25}{last}\n"
    )
    result = kernel_log.xids(kernel_log.begin(Host()))
    assert [(entry["at"], entry["xid"], entry["bus_id"]) for entry in result] == [(1764090351.25, 79, "0000:51:00")]


def test_the_boot_before_has_no_buffer(monkeypatch, buffer):
    buffer["lines"] = [(1.0, "NVRM: Xid (PCI:0000:51:00): 13, Graphics Exception")]
    journal(monkeypatch, err="Specifying boot ID or boot offset has no effect", status=1)
    assert kernel_log.xids(kernel_log.begin(Host(), boot=-1)) is None
    journal(monkeypatch, LINE)
    assert [entry["xid"] for entry in kernel_log.xids(kernel_log.begin(Host(), boot=-1))] == [79]


def test_the_whole_journal_has_its_time_from_the_start(monkeypatch, buffer):
    monkeypatch.setattr(kernel_log, "JOURNAL", ["sh", "-c", "exec sleep 30", "sh"])
    monkeypatch.setattr(kernel_log, "JOURNAL_S", 60)
    begun = kernel_log.begin(Host())
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 60)
    assert kernel_log.lines(begun) is None
    # killed, not waited for a second time
    assert begun.process.returncode == -signal.SIGKILL


def test_a_follower_has_what_came_since(tmp_path):
    log = tmp_path / "kernel.log"
    log.write_text(f"{LINE}\n")
    follower = kernel_log.Follower(Host(tmp_path))
    assert follower.new() == []
    log.write_text(f"{LINE}\n{LINE.replace('79,', '48,')}\n")
    assert [entry["xid"] for entry in follower.new()] == [48]
    assert follower.new() == []
    log.unlink()
    assert follower.new() == []


def test_without_a_journal(monkeypatch, buffer):
    monkeypatch.setattr(kernel_log, "JOURNAL", ["/nonexistent/journalctl"])
    buffer["lines"] = []
    assert kernel_log.xids(kernel_log.begin(Host())) == []


def test_the_kernel_s_buffer_is_read_to_its_end():
    if not Path("/dev/kmsg").exists():
        pytest.skip("this machine has no /dev/kmsg")
    result = kernel_log._buffer()
    if result is None:
        pytest.skip("/dev/kmsg may not be read here")
    assert all(at <= time.time() + 1 for at, _ in result)
