"""unit.enabled, disabled and masked on a box and in a chroot: first run, second run, and test=True."""

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
def test_the_first_run_changes_the_unit_and_the_second_nothing(unit, systemd, live, state, before, after):
    systemd.add(NAME, before, "active" if state != "enabled" else "inactive")
    planned = getattr(unit(live, test=True), state)(NAME)
    assert (planned["result"], systemd.did) == (None, [])
    assert planned["changes"][NAME] == {"old": before, "new": after}
    done = getattr(unit(live), state)(NAME)
    assert done["result"] is True, done["comment"]
    assert done["changes"] == planned["changes"]
    assert systemd.unit(NAME)[0] == after
    did = systemd.did
    for test in (False, True):
        again = getattr(unit(live, test), state)(NAME)
        assert (again["result"], again["changes"]) == (True, {})
    assert systemd.did == did


def test_in_a_chroot_the_unit_is_enabled_and_not_started(unit, systemd):
    systemd.add(NAME)
    unit(live=False).enabled(NAME)
    assert systemd.did == [f"--root=/ enable {NAME}"]
    assert systemd.unit(NAME) == ("enabled", "inactive")


@pytest.mark.parametrize(("state", "active"), [("enabled", "active"), ("disabled", "inactive"), ("masked", "inactive")])
def test_on_a_running_box_the_unit_is_started_or_stopped_too(unit, systemd, state, active):
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
    ids=["finished", "its condition was not met", "its ExecCondition was not met"],
)
def test_a_unit_that_need_not_run_is_not_started(unit, systemd, shown):
    systemd.add(NAME, "enabled", "inactive", shown=shown)
    assert unit().enabled(NAME)["changes"] == {}


def test_a_failed_oneshot_unit_is_started(unit, systemd):
    systemd.add(NAME, "enabled", "failed", shown={"Type": "oneshot", "ConditionTimestampMonotonic": "7"})
    assert unit().enabled(NAME)["changes"].keys() == {f"{NAME} now"}


def test_a_unit_that_does_not_start_fails_with_its_reason(unit, systemd):
    systemd.add(NAME, "enabled", "failed", broken=True)
    failed = unit().enabled(NAME)
    assert (failed["result"], failed["changes"]) == (False, {})
    assert failed["comment"] == f"systemctl start {NAME}: Job for {NAME} failed."


@pytest.mark.parametrize("state", ["enabled", "masked"])
def test_a_missing_unit_fails_with_one_line(unit, systemd, state):
    failed = getattr(unit(), state)("nothing.service")
    assert failed["result"] is False
    assert "does not exist" in failed["comment"]
    assert "\n" not in failed["comment"]


def test_a_missing_unit_counts_as_disabled(unit, systemd):
    assert unit().disabled("nothing.service")["changes"] == {}
    assert systemd.did == []


# ---- one query for all units of a run

RUN = dict.fromkeys(("a.service", "b.timer", "c.socket"), "enabled")


def apply(module):
    return {name: module.enabled(name)["changes"] for name in RUN}


@pytest.mark.parametrize(("live", "queries"), [(True, ["is-enabled", "is-active"]), (False, ["is-enabled"])])
def test_all_units_of_a_run_are_queried_at_once(unit, systemd, live, queries):
    for name in RUN:
        systemd.add(name, "enabled", "active")
    assert apply(unit(live, of_run=RUN)) == {name: {} for name in RUN}
    assert systemd.asked == [f"{query} {' '.join(RUN)}" for query in queries]


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("wrong", RUN)
def test_the_one_unit_that_differs_is_repaired(unit, systemd, live, wrong):
    for name in RUN:
        systemd.add(name, "masked" if name == wrong else "enabled", "active")
    changes = apply(unit(live, of_run=RUN))
    assert changes == {**{name: {} for name in RUN}, wrong: {wrong: {"old": "masked", "new": "enabled"}}}


def test_a_unit_that_does_not_exist_spoils_no_other_answer(unit, systemd):
    systemd.add("a.service", "enabled", "active")
    systemd.add("c.socket", "disabled", "active")
    module = unit(of_run={**RUN, "b.timer": "masked"})
    assert module.disabled("b.timer")["changes"] == {}
    assert module.enabled("a.service")["changes"] == {}
    assert module.enabled("c.socket")["changes"] == {"c.socket": {"old": "disabled", "new": "enabled"}}


def test_a_unit_that_is_to_be_disabled_and_does_not_exist_costs_one_query(unit, systemd):
    for name in RUN:
        systemd.add(name, "enabled", "active")
    module = unit(live=False, of_run={**RUN, "nothing.service": "disabled"})
    assert module.disabled("nothing.service")["changes"] == {}
    assert apply(module) == {name: {} for name in RUN}
    assert systemd.asked == [f"is-enabled {' '.join(RUN)}", "is-enabled nothing.service"]


def test_after_a_change_each_unit_is_queried_anew(unit, systemd):
    for name in RUN:
        systemd.add(name, "enabled", "active")
    before = unit(of_run=RUN)
    assert before.enabled("a.service")["changes"] == {}
    systemd.add("b.timer", "disabled", "inactive")  # as after a state that wrote another unit file
    after = unit(of_run=RUN, changed=True)
    after.__context__ = before.__context__
    assert after.enabled("b.timer")["changes"].keys() == {"b.timer", "b.timer now"}


# ---- units that `systemctl enable` cannot enable


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    ("state", "words"),
    [("static", "no [Install] section"), ("alias", "that unit's own name"), ("indirect", "the one that has to start"),
     ("generated", "a generator creates it"), ("transient", "does not exist after a reboot")],
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
def test_a_unit_enabled_until_the_next_boot_is_enabled_permanently(unit, systemd, state):
    systemd.add(NAME, state)
    assert unit().enabled(NAME)["changes"][NAME] == {"old": state, "new": "enabled"}
    assert systemd.unit(NAME)[0] == "enabled"


@pytest.mark.parametrize("active", ["active", "inactive"])
def test_a_static_unit_counts_as_disabled_and_is_not_stopped(unit, systemd, active):
    systemd.add(NAME, "static", active)
    assert unit().disabled(NAME)["changes"] == {}
    assert systemd.did == []


INSTALL = "[Install]\nWantedBy=multi-user.target\n"


@pytest.fixture
def real(tmp_path, monkeypatch):
    """real(name, text, drop_in) writes a unit below a temporary root, on which the real systemctl then works."""
    systemctl = shutil.which("systemctl") or pytest.skip("needs systemd's systemctl")
    root = tmp_path / "root"
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    # replaces the state's --root=/
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


def test_a_unit_without_an_install_section_is_static(unit, real):
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


def test_an_alias_of_a_unit_cannot_be_enabled(unit, real):
    real(NAME, f"[Service]\nExecStart=/bin/true\n{INSTALL}Alias=moby.service\n")
    assert unit(live=False).enabled(NAME)["result"] is True
    failed = unit(live=False).enabled("moby.service")
    assert failed["result"] is False
    assert "moby.service is alias: it is an alias of another unit" in failed["comment"]


def test_a_masked_static_unit_fails_too(unit, real):
    root = real(NAME, "[Service]\nExecStart=/bin/true\n")
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "etc/systemd/system" / NAME).symlink_to("/dev/null")
    failed = unit(live=False).enabled(NAME)
    assert failed["result"] is False
    assert failed["comment"] == f"{NAME} is static after enable: {unit().NOT_ENABLED['static']}"


@pytest.mark.parametrize("state", ["enabled", "disabled", "masked"])
@pytest.mark.parametrize("test", [False, True])
def test_without_systemd_a_state_fails_in_one_line(unit, monkeypatch, tmp_path, state, test):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = getattr(unit(test=test), state)(NAME)
    assert (result["result"], result["changes"]) == (False, {})
    assert result["comment"] == "systemctl is not installed: install it"
