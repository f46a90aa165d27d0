"""unit.enabled, disabled and masked: on a box and in a chroot, once and again, tried and told."""

import os
import shutil

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


# ---- what `systemctl enable` cannot enable


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    ("state", "words"),
    [("static", "no [Install] section"), ("alias", "that unit's own name"), ("indirect", "the one that has to start"),
     ("generated", "a generator makes it"), ("transient", "gone after a reboot")],
)  # fmt: skip
def test_a_unit_that_would_not_start_at_boot_is_not_enabled(unit, systemd, live, state, words):
    systemd.add(NAME, state, "active")
    tried = unit(live, test=True).enabled(NAME)
    assert (tried["result"], tried["changes"]) == (None, {NAME: {"old": state, "new": "enabled"}})
    failed = unit(live).enabled(NAME)
    assert (failed["result"], failed["changes"]) == (False, {})
    assert failed["comment"].startswith(f"{NAME} is {state}: ")
    assert words in failed["comment"]
    assert systemd.did == []


@pytest.mark.parametrize("state", ["linked", "linked-runtime", "enabled-runtime"])
def test_what_is_enabled_until_the_next_boot_only_is_enabled_for_good(unit, systemd, state):
    systemd.add(NAME, state)
    assert unit().enabled(NAME)["changes"][NAME] == {"old": state, "new": "enabled"}
    assert systemd.unit(NAME)[0] == "enabled"


@pytest.mark.parametrize("active", ["active", "inactive"])
def test_a_static_unit_is_off_and_left_alone(unit, systemd, active):
    systemd.add(NAME, "static", active)
    assert unit().disabled(NAME)["changes"] == {}
    assert systemd.did == []


INSTALL = "[Install]\nWantedBy=multi-user.target\n"


@pytest.fixture
def real(tmp_path, monkeypatch):
    """real(name, text, drop_in) writes a unit into a root of its own, which the real systemctl then edits."""
    systemctl = shutil.which("systemctl") or pytest.skip("needs systemd's systemctl")
    root = tmp_path / "root"
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    # the state says --root=/
    program.write_text(f'#!/bin/sh\nshift\nexec {systemctl} --root={root} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def write(name, text, drop_in=None):
        file = root / "usr/lib/systemd/system" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if drop_in:
            own = root / "etc/systemd/system" / f"{name}.d/vault-cube.conf"
            own.parent.mkdir(parents=True)
            own.write_text(drop_in)
        return root

    return write


def test_systemctl_enables_a_unit_in_a_tree(unit, real):
    root = real(NAME, f"[Service]\nExecStart=/bin/true\n{INSTALL}")
    assert unit(live=False).enabled(NAME)["changes"] == {NAME: {"old": "disabled", "new": "enabled"}}
    assert (root / "etc/systemd/system/multi-user.target.wants" / NAME).is_symlink()
    assert unit(live=False).enabled(NAME)["changes"] == {}


def test_systemctl_calls_a_unit_without_an_install_section_static(unit, real):
    root = real("nvidia-persistenced.service", "[Service]\nExecStart=/bin/true\n")
    failed = unit(live=False).enabled("nvidia-persistenced.service")
    assert failed["result"] is False
    assert "static: it has no [Install] section" in failed["comment"]
    assert not (root / "etc").exists()


def test_a_drop_in_gives_a_static_unit_its_install_section(unit, real):
    root = real("nvidia-persistenced.service", "[Service]\nExecStart=/bin/true\n", drop_in=INSTALL)
    done = unit(live=False).enabled("nvidia-persistenced.service")
    assert done["changes"] == {"nvidia-persistenced.service": {"old": "disabled", "new": "enabled"}}
    assert (root / "etc/systemd/system/multi-user.target.wants/nvidia-persistenced.service").is_symlink()
    assert unit(live=False).enabled("nvidia-persistenced.service")["changes"] == {}


def test_another_name_of_a_unit_is_an_alias_or_not_there(unit, real):
    real(NAME, f"[Service]\nExecStart=/bin/true\n{INSTALL}Alias=moby.service\n")
    assert unit(live=False).enabled(NAME)["result"] is True
    failed = unit(live=False).enabled("moby.service")
    assert failed["result"] is False
    assert "moby.service is alias: it is another name" in failed["comment"]


def test_a_masked_static_unit_fails_too(unit, real):
    root = real(NAME, "[Service]\nExecStart=/bin/true\n")
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "etc/systemd/system" / NAME).symlink_to("/dev/null")
    failed = unit(live=False).enabled(NAME)
    assert failed["result"] is False
    assert failed["comment"] == f"{NAME} is static after enable: {unit().NOT_ENABLED['static']}"
