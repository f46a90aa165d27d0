"""Containers of any network reach the outside, and nothing outside reaches them: with the real rules, in namespaces."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[4]


@pytest.fixture
def rules(salt_of, tmp_path):
    """rules(container_ports) writes after.rules and user.rules of both families, as the layer does."""
    salt = salt_of("debian-12")

    def write(container_ports=()):
        files = []
        for name, source in (("after", "ufw-after.rules"), ("user", "ufw.rules")):
            template = (TOP / "salt/base/files" / source).read_text()
            for family in ("", "6"):
                context = {"family": family, "ports": [22], "container_ports": container_ports, "others": []}
                text = salt.modules.file.apply_template_on_contents(template, "jinja", context, {}, "base")
                files.append(tmp_path / f"{name}{family}.rules")
                files[-1].write_text(text)
        return files

    return write


def test_rules_name_no_bridge(rules):
    for file in rules()[:2]:
        lines = [line for line in file.read_text().splitlines() if line.startswith("-A DOCKER-USER")]
        assert len(lines) == 4
        assert not [line for line in lines if " -i " in line]


def probed(files):
    words = ["unshare", "--net", "python3", Path(__file__).parent / "container_probe.py", *files]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("iptables"), reason="needs root and iptables")
def test_containers_of_every_network_reach_the_outside_and_nothing_reaches_them(rules):
    # the probe's containers listen on port 80
    result = probed(rules([8000]))
    outer = result.pop("bridge of the box's network")
    assert result == {name: {"out": [True, True], "in": [False, False]} for name in result}
    assert len(result) == 4
    # what begins on a bridge of the box's own network comes from outside
    assert outer == {"out": [False, False], "in": [False, False]}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("iptables"), reason="needs root and iptables")
def test_a_port_of_containers_that_the_pillar_opens_is_reached_from_outside(rules):
    result = probed(rules([80]))
    assert {name: probe["in"] for name, probe in result.items()} == {name: [True, True] for name in result}
