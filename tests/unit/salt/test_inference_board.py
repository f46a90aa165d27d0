"""The inference dashboard uses only metrics that vLLM has in all targets, by the names in vLLM's source."""

import json
import re
from pathlib import Path

import pytest
from copied import TOP, chosen, merged

KNOWN = json.loads((Path(__file__).parent / "vllm_metrics.json").read_text())["versions"]
BOARD = (TOP / "salt/validation/files/dashboards/inference.json").read_text()


def versions():
    """Return the version of vLLM that the pillar requires, for each target that has vLLM."""
    pins = {}
    for file in sorted((TOP / "pillar/targets").glob("*.sls")):
        frameworks = merged(*chosen(file.stem))["frameworks"]
        environment = frameworks["environments"].get(frameworks["vllm"]["environment"], {"requirements": []})
        for wanted in environment["requirements"]:
            if match := re.fullmatch(r"vllm(?:-cpu)?==(\S+)", wanted):
                pins[file.stem] = match[1]
    return pins


def test_the_metrics_of_every_required_vllm_are_recorded():
    assert set(versions()) == {"debian-12", "debian-13-nvidia", "ubuntu-24.04"}
    assert set(versions().values()) <= set(KNOWN)


@pytest.mark.parametrize("version", KNOWN)
def test_the_dashboard_uses_only_metrics_of_this_vllm(version):
    used = {name.removesuffix("_total") for name in re.findall(r"vllm:\w+", BOARD)}
    assert len(used) > 10
    assert used <= {name.removesuffix("_total") for name in KNOWN[version]}
