"""A state that fails stops only those that cannot work without it, and a service that does not run is not reloaded."""

import re

import pytest
from rendered import TARGETS, low

REQUISITES = ("require", "watch", "onchanges", "prereq", "onfail", "require_any", "watch_any", "onchanges_any")
# what keeps people out, or lets the right ones in
SECURITY = ("base.users", "base.ssh", "base.firewall", "base.fail2ban", "base.updates", "base.kernel", "base.network",
            "base.cloud", "base.docker", "base.logs", "base.salt", "base.python", "base.units", "base.first_boot",
            "base.clock")  # fmt: skip
# what restarts, reloads or starts a service
RUNNING = re.compile(r"(?<!daemon-)\b(restart|reload|reload-or-restart|start)\b(?! *&&)")
# commands for a service that may not run, and why they are right
ANYWAY = {
    "ufw reload": "loads the rules of a firewall that somebody has stopped",
    "systemctl restart systemd-journald.service": "a box without its journal is not in use",
    "systemctl daemon-reload && systemctl start vault-cube-cdi.service": "starts a oneshot service",
}


def dependents(chunks, wanted):
    """Return the states that do not run if the wanted ones fail. wanted(chunk) chooses them."""
    failed = {(chunk["state"], key) for chunk in chunks if wanted(chunk) for key in (chunk["__id__"], chunk["name"])}
    stopped = []
    while True:
        more = [
            chunk for chunk in chunks
            if chunk not in stopped and not wanted(chunk)
            and any(next(iter(part.items())) in failed for kind in REQUISITES for part in chunk.get(kind, []))
        ]  # fmt: skip
        if not more:
            return stopped
        stopped += more
        failed |= {(chunk["state"], key) for chunk in more for key in (chunk["__id__"], chunk["name"])}


@pytest.mark.parametrize("target", TARGETS)
def test_no_state_requires_a_whole_file(salt_of, target):
    for chunk in low(salt_of(target)):
        for kind in REQUISITES:
            assert not [part for part in chunk.get(kind, []) if "sls" in part], chunk["__id__"]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_waits_for_the_installation_of_packages(salt_of, target):
    chunks = low(salt_of(target))
    installs = [chunk for chunk in chunks if f"{chunk['state']}.{chunk['fun']}" == "packages.installed"]
    assert len(installs) >= 3
    stopped = dependents(chunks, lambda chunk: chunk["state"] in ("packages", "keyring"))
    # a vendor's source is useless without the vendor's key; a build without its driver fails anyway
    right = ("is an apt source", "the image has no DKMS logs")
    assert [chunk["__id__"] for chunk in stopped if not chunk["__id__"].endswith(right)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_failure_of_one_concern_stops_no_other_concern_of_security(salt_of, target):
    chunks = low(salt_of(target))
    for concern in sorted({chunk["__sls__"] for chunk in chunks} - {"base.places"}):
        stopped = dependents(chunks, lambda chunk, concern=concern: chunk["__sls__"] == concern)
        assert {chunk["__sls__"] for chunk in stopped} & set(SECURITY) == set(), concern


@pytest.mark.parametrize("target", TARGETS)
def test_packages_come_before_the_states_that_configure_them(salt_of, target):
    chunks = sorted(low(salt_of(target)), key=lambda chunk: chunk["order"])
    places = {chunk["__sls__"]: place for place, chunk in reversed(list(enumerate(chunks)))}
    install = next(n for n, chunk in enumerate(chunks) if chunk["state"] == "packages")
    # written before, or brought before by require_in, because packages read them
    early = {"base.places", "base.users", "base.updates", "base.packages"}
    assert {name for name, place in places.items() if place < install} == early


def test_an_environment_does_not_stop_the_next(salt_of):
    chunks = low(salt_of("debian-12"))
    environments = [chunk for chunk in chunks if chunk["state"] == "uv"]
    assert len(environments) > 1
    first = environments[0]["__id__"]
    assert dependents(chunks, lambda chunk: chunk["__id__"] == first) == []


def condition(chunk):
    """Return the command that decides whether a command runs."""
    return str(chunk.get("onlyif", ""))


@pytest.mark.parametrize("target", TARGETS)
def test_only_services_that_run_are_reloaded(salt_of, target):
    commands = [chunk for chunk in low(salt_of(target)) if chunk["state"] == "cmd"]
    reloads = [chunk for chunk in commands if RUNNING.search(chunk["name"].replace("udevadm control --reload", ""))]
    assert len(reloads) >= 5
    for chunk in reloads:
        good = chunk["name"] in ANYWAY or "try-restart" in chunk["name"] or "is-active" in condition(chunk)
        assert good, chunk["__id__"]
