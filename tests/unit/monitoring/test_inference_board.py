"""The board of inference asks for metrics that every vLLM of the targets has, by the names in its own source."""

import json
import re
from pathlib import Path

import pytest
from copied import TOP, chosen, merged

KNOWN = json.loads((Path(__file__).parent / "vllm_metrics.json").read_text())["versions"]
BOARD = (TOP / "salt/validation/files/dashboards/inference.json").read_text()


def versions():
    """vLLM's version in each target that has it, as the pillar requires it."""
    pins = {}
    for file in sorted((TOP / "pillar/targets").glob("*.sls")):
        frameworks = merged(*chosen(file.stem))["frameworks"]
        environment = frameworks["environments"].get(frameworks["vllm"]["environment"], {"requirements": []})
        pins |= {
            file.stem: match[1]
            for wanted in environment["requirements"]
            if (match := re.fullmatch(r"vllm(?:-cpu)?==(\S+)", wanted))
        }
    return pins


def test_the_metrics_of_every_required_vllm_are_recorded():
    assert set(versions()) == {"debian-12", "debian-13-nvidia", "ubuntu-24.04"}
    assert set(versions().values()) <= set(KNOWN)


@pytest.mark.parametrize("version", KNOWN)
def test_the_board_asks_for_metrics_that_this_vllm_has(version):
    asked = {name.removesuffix("_total") for name in re.findall(r"vllm:\w+", BOARD)}
    assert len(asked) > 10
    assert asked <= {name.removesuffix("_total") for name in KNOWN[version]}
