"""The output of a long step: its title, its progress and its duration."""

import io
import json
import time

import pytest
from rich.console import Console

from vault_cube.image import progress


@pytest.fixture
def output(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=out, soft_wrap=True))
    monkeypatch.setattr(progress, "PULSE_S", 0.01)
    return out


def test_a_step_prints_its_title_its_duration_and_the_last_line_of_its_log(output, tmp_path):
    log = tmp_path / "log"
    log.write_text("Setting up [docker.io]\n")
    with progress.step("base: states", tmp_path / "times.json", log):
        until = time.monotonic() + 10
        while "docker" not in output.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    first, *between, last = output.getvalue().splitlines()
    assert first == "→ base: states"
    assert between[0].endswith("s  Setting up [docker.io]")
    assert last.startswith("  ✓ base: states: ")
    assert set(json.loads((tmp_path / "times.json").read_text())) == {"base"}


def test_command_lines_of_a_log_are_not_shown(output, tmp_path):
    log = tmp_path / "log"
    log.write_text("Setting up less\n+ setpriv --pdeathsig KILL sh\n")
    with progress.step("base: states", log=log):
        until = time.monotonic() + 10
        while "less" not in output.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    assert "Setting up less" in output.getvalue()
    assert "setpriv" not in output.getvalue()


def test_only_the_last_state_of_an_overwritten_log_line_is_shown(output, tmp_path):
    log = tmp_path / "log"
    log.write_text("    (1.00/100%)\r    (43.21/100%)\r    (44.00/100%)")
    with progress.step("formats: qcow2", log=log):
        until = time.monotonic() + 10
        while "%" not in output.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    assert "(44.00/100%)" in output.getvalue()
    assert "43.21" not in output.getvalue()


def test_a_failed_step_prints_and_records_no_duration(output, tmp_path):
    with pytest.raises(OSError), progress.step("disk: …", tmp_path / "times.json", tmp_path / "no-log"):
        raise OSError
    assert "✓" not in output.getvalue()
    assert not (tmp_path / "times.json").exists()


def test_bytes_are_counted_with_and_without_a_known_total(output):
    with progress.byte_bar("packages", 3 << 20) as advance:
        advance(1 << 20)
        advance(2 << 20)
    with progress.byte_bar("wheels", 0) as advance:
        advance(5 << 20)
    assert output.getvalue().splitlines()[-1] == "  ✓ wheels: 5 MiB"
    assert "  ✓ packages: 3 of 3 MiB" in output.getvalue()
