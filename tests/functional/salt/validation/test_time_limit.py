"""The pillar's gpu:answer_s reaches the exporter's service and the beacon's configuration."""

import pytest
import yaml


@pytest.fixture
def salt(salt_of):
    return salt_of("debian-13-nvidia")


def test_the_service_passes_the_limit_for_gpus_only(salt):
    limit_s = salt.opts["pillar"]["gpu"]["answer_s"]
    for name, expected in (("gpus", f" --answer-s={limit_s}"), ("disks", "")):
        unit = salt.modules.slsutil.renderer(
            "salt://validation/files/readings.service", default_renderer="jinja", name=name, user="x", what="x"
        )
        (command,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
        assert command.partition("node-exporter")[2] == expected


def test_the_beacon_is_configured_with_the_limit(salt):
    chunks = salt.modules.state.show_low_sls("validation.beacon")
    (contents,) = [chunk["contents"] for chunk in chunks if "contents" in chunk]
    settings = yaml.safe_load(contents)["beacons"]["gpu"]
    assert {"answer_s": salt.opts["pillar"]["gpu"]["answer_s"]} in settings
