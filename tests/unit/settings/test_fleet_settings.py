"""The schema of pillar section fleet."""

import pytest

from vault_cube.settings import PillarError, check

KEY = ":".join(["ab"] * 32)
BROKEN = {
    "a master without a key": ({"master": "salt.example"}, "fleet: fleet:master needs fleet:master_key"),
    "a master with a space": ({"master": "salt example", "master_key": KEY}, "fleet:master: "),
    "a URL as a master": ({"master": "https://salt.example/", "master_key": KEY}, "fleet:master: "),
    "a list of masters": ({"master": ["a", "b"], "master_key": KEY}, "fleet:master: "),
    "a short fingerprint": ({"master": "salt.example", "master_key": "ab:cd"}, "fleet:master_key: "),
    "an MD5 fingerprint": ({"master": "salt.example", "master_key": ":".join(["ab"] * 16)}, "fleet:master_key: "),
    "an id with a slash": ({"id": "a/b"}, "fleet:id: "),
    "an id with upper case": ({"id": "B1"}, "fleet:id: "),
    "a glob as an id": ({"id": "*"}, "fleet:id: "),
    "a pattern of functions": ({"allow": ["gpu.*"]}, "fleet:allow:0: "),
    "no probes": ({"keepalive": {"probes": 0}}, "fleet:keepalive:probes: "),
    "a port out of range": ({"publish_port": 0}, "fleet:publish_port: "),
    "a canary twice": ({"server": {"canaries": ["b1", "b1"]}}, "fleet:server:canaries names a box twice"),
    "no box in a batch": ({"server": {"batch": 0}}, "fleet:server:batch: "),
    "an unknown layer": ({"server": {"checks": ["bases"]}}, "fleet:server:checks:0: "),
    "no name of the server": ({"server": {"names": []}}, "fleet:server:names: "),
    "a large body": ({"server": {"body_kib": 4096}}, "fleet:server:body_kib: "),
    "an unknown role": ({"server": {"roles": {"root": {"boxes": [], "master": []}}}}, "no such key"),
    "two services on a port": ({"server": {"internal_port": 8443}}, "fleet:server:internal_port"),
    "one port for both": ({"request_port": 4505}, "fleet:request_port"),
    "a password": ({"server": {"password": "correct-horse"}}, "no such key"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_fleet_is_one_line(pillar, case):
    section, message = BROKEN[case]
    with pytest.raises(PillarError) as caught:
        check(pillar("debian-12", {"fleet": section}))
    assert message in str(caught.value)
    assert "correct-horse" not in str(caught.value)


@pytest.mark.parametrize("master", ["salt.example", "10.0.0.1", "fd00::1", "master"])
def test_a_box_of_a_fleet(pillar, master):
    fleet = check(pillar("debian-12", {"fleet": {"master": master, "master_key": KEY, "id": "b1"}})).fleet
    assert fleet.master == master
