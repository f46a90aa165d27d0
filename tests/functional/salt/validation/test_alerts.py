"""The alert rules, checked with promtool: they parse, fire when they should, and do not fire otherwise."""

from pathlib import Path

import pytest
import yaml
from copied import TOP

TARGETS = sorted(path.name.removesuffix(".sls") for path in (TOP / "pillar/targets").glob("*.sls"))
CASES = Path(__file__).with_name("alerts_test.yml")
DEMO_BOX = "ubuntu-24.04"


@pytest.mark.parametrize("target", TARGETS)
def test_promtool_accepts_every_target_s_rules(promtool, rendered, alerts, target, tmp_path):
    (tmp_path / "alerts.yml").write_text(rendered(target, "alerts.yml"))
    status, output = promtool("check", "rules", "alerts.yml", cwd=tmp_path)
    assert status == 0, output
    assert f"SUCCESS: {len(alerts(target))} rules found" in output


@pytest.mark.parametrize("target", TARGETS)
def test_promtool_accepts_every_target_s_configuration(promtool, rendered, target, tmp_path):
    # the rules are in a folder to which the test can write
    text = rendered(target, "prometheus.yml").replace("/etc/vault-cube/monitoring", str(tmp_path))
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yml").write_text(rendered(target, "alerts.yml"))
    status, output = promtool("check", "config", tmp_path / "prometheus.yml")
    assert status == 0, output


def test_every_alert_fires_when_it_should_and_not_before(promtool, rendered, tmp_path):
    (tmp_path / "alerts.yml").write_text(rendered(DEMO_BOX, "alerts.yml"))
    (tmp_path / CASES.name).write_text(CASES.read_text())
    status, output = promtool("test", "rules", CASES.name, cwd=tmp_path)
    assert status == 0, output


def test_the_cases_fail_with_another_threshold(promtool, rendered, tmp_path):
    (tmp_path / "alerts.yml").write_text(rendered(DEMO_BOX, "alerts.yml").replace("GPU_TEMP > 80", "GPU_TEMP > 95"))
    (tmp_path / CASES.name).write_text(CASES.read_text())
    status, output = promtool("test", "rules", CASES.name, cwd=tmp_path)
    assert status != 0
    assert "GpuHot" in output


def test_every_alert_has_a_case_that_fires_and_one_that_does_not(alerts):
    fires, quiet = set(), set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for check in case["alert_rule_test"]:
            (fires if check.get("exp_alerts") else quiet).add(check["alertname"])
    assert fires == quiet == set(alerts(DEMO_BOX))


@pytest.mark.parametrize("target", TARGETS)
def test_every_alert_has_a_runbook(alerts, target):
    folder = TOP / "docs/runbooks"
    for name, rule in alerts(target).items():
        assert rule["annotations"]["runbook"] == f"/opt/vault-cube/checkout/docs/runbooks/{name}.md"
        assert (folder / f"{name}.md").read_text().startswith(f"# {name}\n")


def test_every_runbook_has_an_alert(alerts):
    files = {file.stem for file in (TOP / "docs/runbooks").glob("*.md")} - {"README"}
    assert files == set(alerts(DEMO_BOX))


def test_the_rules_have_the_pillar_s_thresholds(alerts, salt_of):
    pillar = salt_of(DEMO_BOX).opts["pillar"]
    limits = pillar["validation"]["monitoring"]["alerts"]
    rules = alerts(DEMO_BOX)
    for name, key in (
        ("GpuWarm", "gpu_warm"), ("GpuHot", "gpu_hot"), ("GpuPowerHigh", "gpu_power"), ("BoxPowerHigh", "box_power"),
        ("GpuMemoryFull", "gpu_memory"), ("DiskFull", "disk_full"), ("DiskFilling", "disk_filling"),
        ("MemoryFull", "memory"), ("NvmeHot", "nvme_hot"), ("NvmeWorn", "nvme_worn"), ("GpuThrottled", "gpu_throttled"),
    ):  # fmt: skip
        assert rules[name]["expr"].endswith(f" > {limits[key]['above']}")
        assert rules[name]["for"] == f"{limits[key]['minutes']}m"
    assert rules["GpuMissing"]["expr"].endswith(f"< {pillar['driver']['gates']['gpus']}")
