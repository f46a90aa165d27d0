"""`make validate` of a booted guest, from the other side of its network, and of the image, which it boots itself."""

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
SCAN = "test_only_ports_that_the_pillar_or_the_owner_opened_answer"
LOCAL = "/opt/vault-cube/checkout/pillar/local.sls"


def validated(*words, before=(), environment=None):
    """Run `make validate`. Returns the result, and the tests: {name: [failure, error or skipped]}."""
    junit = TOP / "build/validate/junit.xml"
    junit.unlink(missing_ok=True)
    ran = process.run([*before, "make", "-C", TOP, "validate", *words], timeout_s=2 * LIMIT_S, ok=None, env=environment)
    print(ran.stdout[-4000:])
    results = ElementTree.parse(junit).getroot().iter("testcase")
    return ran, {result.get("name"): [child.tag for child in result if child.tag != "properties"] for result in results}


def test_a_booted_box_passes_from_inside_and_outside(disk, expected):
    box = disk.start()
    # without KVM, the import of a framework takes minutes
    root(box, f"echo 'frameworks: {{gates: {{import_s: {LIMIT_S}}}}}' > {LOCAL}")
    host = f"HOST={expected.user}@{GUEST}:{expected.ssh_port}"
    ran, verdicts = validated(host, f"KEY={box.seed.key}", before=box.outside)
    assert {f"test_layer[{layer}]" for layer in LAYERS} <= set(verdicts)
    assert SCAN in verdicts
    assert {name: bad for name, bad in verdicts.items() if bad} == {}
    assert ran.returncode == 0
    assert f"Validation of {expected.user}@{GUEST}" in (TOP / "build/validate/index.html").read_text()
    disk.end()  # the next test boots a guest of its own


def test_without_a_host_the_image_is_booted(image, space):
    """Without the frameworks, whose imports exceed their time limit without KVM."""
    environment = {**os.environ, "PYTEST_ADDOPTS": "-k 'not frameworks'", "VAULT_CUBE_IMAGE": str(image)}
    ran, verdicts = validated(f"TARGET={space.target}", environment=environment)
    assert {f"test_layer[{layer}]" for layer in LAYERS if layer != "frameworks"} <= set(verdicts)
    assert {name: bad for name, bad in verdicts.items() if bad} == {SCAN: ["skipped"]}
    assert ran.returncode == 0
    assert f"Validation of {space.target}" in (TOP / "build/validate/index.html").read_text()
