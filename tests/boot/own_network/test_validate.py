"""`make validate` of a booted guest, from the other side of its network: no test fails or is skipped."""

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from lasting import LIMIT_S, root

from vault_cube import process
from vault_cube.image.guest.qemu import GUEST

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")]
TOP = Path(__file__).parents[3]
LAYERS = ("base", "driver", "runtime", "frameworks", "validation")
LOCAL = "/opt/vault-cube/checkout/pillar/local.sls"


def test_a_booted_box_passes_from_inside_and_outside(disk, expected):
    box = disk.start()
    # without KVM, the import of a framework takes minutes
    root(box, f"echo 'frameworks: {{gates: {{import_s: {LIMIT_S}}}}}' > {LOCAL}")
    host = f"HOST={expected.user}@{GUEST}:{expected.ssh_port}"
    ran = process.run(
        [*box.outside, "make", "-C", TOP, "validate", host, f"KEY={box.seed.key}"], timeout_s=2 * LIMIT_S, ok=None
    )
    print(ran.stdout[-4000:])
    results = ElementTree.parse(TOP / "build/validate/junit.xml").getroot().iter("testcase")
    verdicts = {result.get("name"): [child.tag for child in result if child.tag != "properties"] for result in results}
    assert {f"test_layer[{layer}]" for layer in LAYERS} <= set(verdicts)
    assert "test_only_ports_that_the_pillar_or_the_owner_opened_answer" in verdicts
    assert {name: bad for name, bad in verdicts.items() if bad} == {}
    assert ran.returncode == 0
    assert f"Validation of {expected.user}@{GUEST}" in (TOP / "build/validate/index.html").read_text()
