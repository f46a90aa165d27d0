"""Scan the finished layers of a target with the real scanners (make test-slow). Needs root, and oscap."""

import os
import shutil

import pytest
from base_tree import built, chosen_workspace

from vault_cube.image.cache import keys
from vault_cube.image.inspect import scan

TARGET = os.environ.get("VAULT_CUBE_TARGET", "debian-12")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts an overlay: needs root"),
    pytest.mark.skipif(not shutil.which("oscap"), reason="needs openscap-scanner"),
]


def test_no_rule_got_worse():
    space = chosen_workspace(TARGET)
    if keys.ORDER[-1] not in built(space):
        pytest.skip(f"{TARGET}: the layers are missing or out of date: run `make image`")
    report = scan.scan(space)
    assert report.exit_code == 0, report.table()
    assert any(verdict.check == "proven by sshd -T" for verdict in report.verdicts)
