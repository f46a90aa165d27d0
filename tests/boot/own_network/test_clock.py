"""A clock that is wrong by ten years: states are applied, drift.report shows the date, and nothing is left of it."""

import os
import time

import pytest
from lasting import apply, drift, root

from vault_cube.drift.running import SET_CLOCK

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")]
TEN_YEARS_S = 3653 * 86400
HARM = "rm /etc/sysctl.d/99-vault-cube.conf; sed -i s/^/#/ /etc/ssh/sshd_config.d/00-vault-cube.conf"


def base(seconds):
    """Words for QEMU that set the clock of the machine."""
    return "-rtc", f"base={time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() + seconds))}"


def clock_of(report):
    return [finding for name in ("findings", "unjudged") for finding in report[name] if finding["what"] == "clock"]


def is_repaired(box):
    root(box, HARM)
    failed, changed = apply(box)
    assert failed == {}
    assert {"kernel settings", "ssh accepts keys only"} <= set(changed)
    assert apply(box) == ({}, [])


@pytest.mark.parametrize("years", [-10, 10])
def test_states_are_applied_and_the_wrong_date_is_shown(disk, years):
    disk.end()
    box = disk.start(*base(years * TEN_YEARS_S // 10))
    date = root(box, "date --utc +%F")
    is_repaired(box)
    report, findings = drift(box)
    assert [finding for finding in findings if finding[1] != "clock"] == []
    (clock,) = clock_of(report)
    assert date in clock["change"]
    assert SET_CLOCK in clock["todo"]
    # systemd starts no earlier than at its own release, nor before the time that timesyncd has stored
    assert abs(int(date[:4]) - time.gmtime().tm_year) <= 10
    if years > 0:
        assert int(date[:4]) == time.gmtime().tm_year + 10


def test_a_clock_that_was_ahead_is_set_by_the_command_of_the_report(disk):
    # timesyncd has stored the time that was ahead, so a right clock of the machine does not help
    box = disk.reboot()
    report, _ = drift(box)
    (clock,) = clock_of(report)
    assert str(time.gmtime().tm_year + 10) in clock["change"]
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    box.ssh(SET_CLOCK.replace("YYYY-MM-DD hh:mm:ss", now), timeout_s=300)
    assert abs(int(root(box, "date +%s")) - time.time()) < 120
    is_repaired(box)
    box = disk.reboot()
    assert abs(int(root(box, "date +%s")) - time.time()) < 120
    assert drift(box)[1] == []
