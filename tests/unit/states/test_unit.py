"""unit.enabled, disabled and masked: on a box and in a chroot, once and again, tried and told."""

import pytest

NAME = "docker.service"


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    ("state", "before", "after"),
    [("enabled", "disabled", "enabled"), ("disabled", "enabled", "disabled"), ("masked", "enabled", "masked"),
     ("enabled", "masked", "enabled"), ("enabled", "enabled-runtime", "enabled"),
     ("masked", "masked-runtime", "masked")],
)  # fmt: skip
def test_once_changes_and_again_does_not(unit, systemd, live, state, before, after):
    systemd.add(NAME, before, "active" if state != "enabled" else "inactive")
    told = getattr(unit(live, test=True), state)(NAME)
    assert (told["result"], systemd.did) == (None, [])
    assert told["changes"][NAME] == {"old": before, "new": after}
    done = getattr(unit(live), state)(NAME)
    assert done["result"] is True, done["comment"]
    assert done["changes"] == told["changes"]
    assert systemd.unit(NAME)[0] == after
    did = systemd.did
    for test in (False, True):
        again = getattr(unit(live, test), state)(NAME)
        assert (again["result"], again["changes"]) == (True, {})
    assert systemd.did == did


def test_a_chroot_is_edited_and_nothing_is_started(unit, systemd):
    systemd.add(NAME)
    unit(live=False).enabled(NAME)
    assert systemd.did == [f"--root=/ enable {NAME}"]
    assert systemd.unit(NAME) == ("enabled", "inactive")


@pytest.mark.parametrize(("state", "active"), [("enabled", "active"), ("disabled", "inactive"), ("masked", "inactive")])
def test_a_running_box_follows_at_once(unit, systemd, state, active):
    systemd.add(NAME, "enabled" if state != "enabled" else "disabled", "active" if state != "enabled" else "inactive")
    assert getattr(unit(), state)(NAME)["changes"].keys() == {NAME, f"{NAME} now"}
    assert systemd.unit(NAME)[1] == active


def test_a_stopped_service_is_drift_and_is_started(unit, systemd):
    systemd.add(NAME, "enabled", "inactive")
    assert unit(test=True).enabled(NAME)["result"] is None
    assert unit().enabled(NAME)["changes"] == {f"{NAME} now": {"old": "stopped", "new": "running"}}
    assert systemd.unit(NAME) == ("enabled", "active")


@pytest.mark.parametrize(
    "shown",
    [
        {"Type": "oneshot", "ConditionResult": "yes", "ConditionTimestampMonotonic": "7"},
        {"Type": "simple", "ConditionResult": "no", "ConditionTimestampMonotonic": "7"},
        {"Type": "forking", "Result": "exec-condition", "ConditionResult": "yes", "ConditionTimestampMonotonic": "7"},
    ],
    ids=["did its work", "its condition did not hold", "its program said that it is not needed"],
)
def test_what_need_not_run_is_at_rest(unit, systemd, shown):
    systemd.add(NAME, "enabled", "inactive", shown=shown)
    assert unit().enabled(NAME)["changes"] == {}


def test_a_failed_oneshot_is_not_at_rest(unit, systemd):
    systemd.add(NAME, "enabled", "failed", shown={"Type": "oneshot", "ConditionTimestampMonotonic": "7"})
    assert unit().enabled(NAME)["changes"].keys() == {f"{NAME} now"}


def test_a_unit_that_does_not_start_fails_with_its_reason(unit, systemd):
    systemd.add(NAME, "enabled", "failed", broken=True)
    failed = unit().enabled(NAME)
    assert (failed["result"], failed["changes"]) == (False, {})
    assert failed["comment"] == f"systemctl start {NAME}: Job for {NAME} failed."


@pytest.mark.parametrize("state", ["enabled", "masked"])
def test_a_unit_that_is_not_there_fails_in_one_line(unit, systemd, state):
    failed = getattr(unit(), state)("nothing.service")
    assert failed["result"] is False
    assert "does not exist" in failed["comment"]
    assert "\n" not in failed["comment"]


def test_what_is_not_there_is_off(unit, systemd):
    assert unit().disabled("nothing.service")["changes"] == {}
    assert systemd.did == []
