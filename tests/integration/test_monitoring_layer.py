"""Layer validation and the layers below it, without frameworks, in a real Debian 12 tree, where its exporters run."""

import os

import pytest
import yaml
from base_tree import Box, workspace

from vault_cube.image.download.fetch import fetch
from vault_cube.image.inputs import Locks

pytestmark = [
    pytest.mark.chroot,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a root tree: needs root"),
]
READINGS = "/var/lib/prometheus/node-exporter"
UNITS = "/etc/systemd/system"


@pytest.fixture(scope="module")
def box():
    """The tree after its first apply."""
    space = workspace()
    fetch(space, Locks.read(space))
    with space.scratch("test-monitoring") as folder:
        tree = Box(space, folder, "validation")
        failed, changed = tree.apply()
        assert failed == {}
        assert "readings have a folder" in changed
        yield tree


# ---- idempotence: these tests come first, because they need the unchanged tree


def test_a_second_apply_changes_nothing(box):
    assert box.apply() == ({}, set())


def test_a_dry_run_reports_no_changes(box):
    assert box.apply("test=True") == ({}, set())


# ---- accounts, units and files


def test_the_exporters_account_has_the_pillar_s_id(box):
    monitoring = box.space.settings.validation.monitoring
    assert box.sh("getent passwd prometheus").split(":")[2:4] == [str(monitoring.uid)] * 2
    assert box.sh(f"stat -c '%U %a' {READINGS}") == "prometheus 755"


def test_units_are_valid_and_enabled(box):
    assert box.sh("systemctl --root=/ is-enabled prometheus-node-exporter.service vault-cube-disks.timer") == (
        "enabled\nenabled"
    )
    # without a GPU driver there is nothing to read
    assert box.sh("systemctl --root=/ is-enabled vault-cube-gpus.timer || true") == "disabled"
    names = "vault-cube-gpus.timer vault-cube-disks.timer vault-cube-gpus.service vault-cube-disks.service"
    output = box.sh(f"cd {UNITS}; systemd-analyze verify {names} prometheus-node-exporter.service 2>&1 || true")
    assert [line for line in output.splitlines() if "vault-cube" in line or "node-exporter" in line] == []


def test_the_firewall_does_not_open_the_exporter_s_port(box):
    assert "9100" not in box.sh("cat /etc/ufw/user.rules /etc/ufw/user6.rules")


def test_rules_dashboards_and_runbooks_are_on_the_box(box):
    rules = yaml.safe_load(box.sh("cat /etc/vault-cube/monitoring/alerts.yml"))
    runbooks = [rule["annotations"]["runbook"] for group in rules["groups"] for rule in group["rules"]]
    assert len(runbooks) > 15
    box.sh("ls " + " ".join(runbooks))
    assert box.sh("ls /etc/vault-cube/monitoring/dashboards").split() == [
        "availability.json", "gpus.json", "inference.json", "overview.json", "system.json",
    ]  # fmt: skip


# ---- the commands of the units, run in the tree's network namespace


def command_of(box, unit):
    """Return a unit's last ExecStart."""
    lines = box.sh(f"cat {UNITS}/{unit}").replace("\\\n", " ").splitlines()
    return [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")][-1]


def test_readings_reach_the_node_exporter_on_loopback_only(box):
    node = command_of(box, "prometheus-node-exporter.service.d/vault-cube.conf")
    disks, gpus = (command_of(box, f"vault-cube-{name}.service") for name in ("disks", "gpus"))
    output = box.sh(f"""
        unset PYTHONPATH
        ip link set lo up
        {disks}
        su -s /bin/sh prometheus -c '{gpus}'
        su -s /bin/sh prometheus -c '{node}' 2>/run/node.log & node=$!
        curl -s --retry 30 --retry-connrefused --retry-delay 1 http://127.0.0.1:9100/metrics > /run/metrics
        ss -Htln sport = :9100
        kill $node
        grep -E '^(vault_cube|node_textfile|node_boot_time)' /run/metrics
    """)
    listening, *metrics = output.splitlines()
    assert listening.split()[3] == "127.0.0.1:9100"
    values = dict(line.rsplit(" ", 1) for line in metrics)
    assert values["vault_cube_gpus"] == "0"
    assert values['vault_cube_gpu_problem{kind="no library"}'] == "1"
    assert float(values["vault_cube_disks"]) >= 0
    assert values["node_textfile_scrape_error"] == "0"
    for name in ("gpus", "disks"):
        assert f'node_textfile_mtime_seconds{{file="{READINGS}/vault-cube-{name}.prom"}}' in values
    box.sh(f"rm {READINGS}/*.prom")


# ---- drift


def test_a_threshold_that_was_changed_by_hand_is_reported_and_restored(box):
    box.sh("sed -i 's/GPU_TEMP > 80/GPU_TEMP > 120/' /etc/vault-cube/monitoring/alerts.yml")
    assert box.apply("test=True") == ({}, {"alerts have the pillar's thresholds"})
    assert box.apply() == ({}, {"alerts have the pillar's thresholds"})
    assert "GPU_TEMP > 80" in box.sh("cat /etc/vault-cube/monitoring/alerts.yml")


def test_a_threshold_follows_the_pillar(box):
    box.choose("validation", monitoring={"alerts": {"gpu_hot": {"above": 90, "minutes": 3}}})
    failed, changed = box.apply()
    box.choose()
    assert failed == {}
    assert "alerts have the pillar's thresholds" in changed
    assert "GPU_TEMP > 90" in box.sh("cat /etc/vault-cube/monitoring/alerts.yml")
