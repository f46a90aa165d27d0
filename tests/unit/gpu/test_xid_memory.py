"""XIDs that were read once stay for the boot, and only the end of the log is read again."""

import json

import pytest

from vault_cube.gpu.read import kernel_log
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.xid_memory import XidMemory

LINE = "{at}.5 box kernel: NVRM: Xid (PCI:0000:51:00): {code}, pid=1, something\n"


@pytest.fixture
def read(tmp_path):
    """read(log, boot) is what a run finds: the codes, None if the log cannot be read."""

    def run(log, boot="one"):
        (tmp_path / "proc/sys/kernel/random").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/sys/kernel/random/boot_id").write_text(f"{boot}\n")
        (tmp_path / "kernel.log").unlink(missing_ok=True)
        if log is not None:
            (tmp_path / "kernel.log").write_text(log)
        memory = XidMemory(Host(tmp_path), tmp_path / "xids.json")
        result = memory.xids(memory.begin())
        return None if result is None else [entry["xid"] for entry in result]

    return run


def test_what_was_read_stays_and_counts_once(read):
    first, second = LINE.format(at=100, code=79), LINE.format(at=200, code=13)
    assert read(first) == [79]
    assert read(first + second) == [79, 13]
    assert read(second) == [79, 13]
    assert read("") == [79, 13]
    # one of an older time, written late
    assert read(LINE.format(at=150, code=48)) == [79, 48, 13]


def test_a_log_that_cannot_be_read_is_not_what_was_read_before(read):
    assert read(LINE.format(at=100, code=79)) == [79]
    assert read(None) is None
    assert read("") == [79]


def test_another_boot_begins_anew(read):
    assert read(LINE.format(at=100, code=79)) == [79]
    assert read("", boot="two") == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"boot": "one"}', '{"boot": "one", "read": 1, "xids": [{}]}', "\0"]
)
def test_a_broken_file_is_an_empty_one(read, tmp_path, text):
    (tmp_path / "xids.json").write_text(text)
    assert read(LINE.format(at=100, code=79)) == [79]
    assert json.loads((tmp_path / "xids.json").read_text())["boot"] == "one"


def test_a_folder_that_cannot_be_written_costs_nothing(read, tmp_path):
    (tmp_path / "xids.new").mkdir()
    assert read(LINE.format(at=100, code=79)) == [79]
    assert not (tmp_path / "xids.json").exists()


def test_the_journal_is_asked_from_the_last_time_on(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_log, "_buffer", lambda: None)
    monkeypatch.setattr(kernel_log, "JOURNAL", ["sh", "-c", f'echo "$*" >> {tmp_path}/calls', "sh"])
    result = []
    for _ in range(2):
        memory = XidMemory(Host(), tmp_path / "xids.json")
        result.append(memory.xids(memory.begin()))
        memory._write([])
    # the whole journal has at least what the driver writes when it starts, its end may have nothing
    assert result == [None, []]
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert first == "--boot=0"
    assert second.startswith("--boot=0 --since=@")
