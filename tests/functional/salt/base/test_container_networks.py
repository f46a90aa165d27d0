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
    """The two files of rules, as the layer writes them."""
    salt = salt_of("debian-12")
    source = (TOP / "salt/base/files/ufw-after.rules").read_text()
    files = []
    for family in ("", "6"):
        text = salt.modules.file.apply_template_on_contents(source, "jinja", {"family": family}, {}, "base")
        files.append(tmp_path / f"after{family}.rules")
        files[-1].write_text(text)
    return files


def test_rules_name_no_bridge(rules):
    for file in rules:
        lines = [line for line in file.read_text().splitlines() if line.startswith("-A DOCKER-USER")]
        assert len(lines) == 4
        assert not [line for line in lines if " -i " in line]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("iptables"), reason="needs root and iptables")
def test_containers_of_every_network_reach_the_outside_and_nothing_reaches_them(rules):
    words = ["unshare", "--net", "python3", Path(__file__).parent / "container_probe.py", *rules]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    outer = result.pop("bridge of the box's network")
    assert result == {name: {"out": [True, True], "in": [False, False]} for name in result}
    assert len(result) == 4
    # what begins on a bridge of the box's own network comes from outside
    assert outer == {"out": [False, False], "in": [False, False]}
