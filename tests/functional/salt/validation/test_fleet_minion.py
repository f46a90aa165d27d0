"""The states of a box in a fleet, and of a box that has left it."""

from pathlib import Path

import salt.executors
import salt.returners
import yaml
from rendered import TOP, files, low, text

FLEET = {"fleet": {"master": "salt.example", "master_key": ":".join(32 * ["ab"])}}
CONFIGURATION = "/etc/salt/fleet/minion"


def test_by_default_a_box_is_in_no_fleet(salt_of):
    box = salt_of("debian-12")
    assert CONFIGURATION not in files(box)
    absent = {chunk["name"] for chunk in low(box) if (chunk["state"], chunk["fun"]) == ("file", "absent")}
    assert {"/etc/salt/fleet", "/etc/salt/pki/fleet", "/etc/systemd/system/vault-cube-fleet.service"} <= absent


def test_a_box_joins_with_its_host_name_and_all_executors_but_the_gate_off(salt_of):
    box = salt_of("debian-12", FLEET)
    options = yaml.safe_load(text(box, files(box)[CONFIGURATION]))
    assert options["id"] == "vault-cube"
    assert options["master_finger"] == FLEET["fleet"]["master_key"]
    assert options["module_executors"] == ["fleet_gate"]
    for package, option in ((salt.executors, "disable_executors"), (salt.returners, "disable_returners")):
        names = {file.stem for file in Path(package.__file__).parent.glob("[a-z]*.py")}
        assert names == set(options[option]), option


def test_the_gate_is_a_copy_outside_of_the_checkout(salt_of):
    chunk = files(salt_of("debian-12", FLEET))["/opt/vault-cube/fleet/fleet_gate.py"]
    assert text(None, chunk) == (TOP / "_executors/fleet_gate.py").read_text()
