"""A box made from an image joins a fleet and leaves it, in the tree of the built image, with its guard and manifest."""

import json
import os
import shlex

import pytest
import test_layers_in_tree as in_tree
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root")]
# the fixtures of that file
space, trees, inside = in_tree.space, in_tree.trees, in_tree.inside

LOCAL = "/opt/vault-cube/checkout/pillar/local.sls"
SALT_CALL = "salt-call --local --log-level=quiet --out=json"
MEMBER = {"master": "192.0.2.1", "master_key": ":".join(32 * ["ab"]), "id": "b1"}
KEY = "mkdir -p /etc/salt/pki/fleet; echo key >/etc/salt/pki/fleet/minion.pem"


def pillar(fleet):
    """The shell command that writes the owner's pillar."""
    return f"umask 022; echo {shlex.quote(yaml.safe_dump({'fleet': fleet}))} >{LOCAL}"


def report(output):
    """What the last command, drift.report, returned."""
    return json.loads(output[output.rindex('{\n    "local"') :])["local"]


def test_a_box_in_a_fleet_has_no_drift_and_still_applies_its_states(inside):
    join = f"{pillar(MEMBER)}; {SALT_CALL} state.apply validation.fleet; {KEY}"
    status, output = inside(["sh", "-c", f"{join}; {SALT_CALL} drift.report"])
    result = report(output)
    assert result["findings"] == [], output
    assert status == 0
    status, output = inside(["sh", "-c", f"{join}; {SALT_CALL} state.apply validation.fleet"])
    assert "refused" not in output
    assert status == 0


def test_a_changed_list_of_what_the_master_may_do_is_drift(inside):
    file = "/etc/salt/fleet/minion"
    change = f"sed -i 's/allow: .*/allow: [cmd.run]/' {file}"
    join = f"{pillar(MEMBER)}; {SALT_CALL} state.apply validation.fleet >&2; {change}"
    status, output = inside(["sh", "-c", f"{join}; {SALT_CALL} drift.report"])
    assert [(finding["what"], finding["class"]) for finding in report(output)["findings"]] == [
        (file, "repaired by state.apply")
    ]
    assert status == 2


def test_a_box_that_has_left_has_no_drift(inside):
    join = f"{pillar(MEMBER)}; {SALT_CALL} state.apply validation.fleet >&2; {KEY}"
    leave = f"{pillar({})}; {SALT_CALL} state.apply validation.fleet >&2"
    status, output = inside(["sh", "-c", f"{join}; {leave}; find / -xdev -path '*fleet*' -not -path '*/checkout/*'"])
    left = [line for line in output.splitlines() if line.startswith(("/etc", "/var", "/opt/vault-cube/fleet"))]
    assert left == []
    status, output = inside(["sh", "-c", f"{join}; {leave}; {SALT_CALL} drift.report"])
    assert (status, report(output)["findings"]) == (0, [])
