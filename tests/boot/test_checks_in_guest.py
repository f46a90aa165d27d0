"""layer.check on the booted box: every promise that a machine without a GPU can show, the frameworks' included."""

import json

import pytest

LAYERS = [
    *(pytest.param(name, marks=pytest.mark.image) for name in ("base", "driver", "runtime", "validation")),
    # an emulated processor imports the frameworks in a quarter of an hour
    pytest.param("frameworks", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def patience(box):
    """An emulated processor imports a framework in minutes: the gate's seconds are a real box's."""
    if box.accelerator == "kvm":
        yield
        return
    local = "/opt/vault-cube/checkout/pillar/local.sls"
    box.ssh(f"printf 'frameworks: {{gates: {{import_s: 1500}}}}\\n' | sudo -n tee {local}")
    yield
    box.ssh(f"sudo -n rm {local}")


def checked(box, layer, timeout_s):
    """What layer.check says as JSON, and its exit code."""
    done = box.ssh(
        f"sudo -n salt-call --local --log-level=quiet --out=json layer.check {layer}", timeout_s=timeout_s, check=False
    )
    return json.loads(done.stdout)["local"], done.returncode


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_keeps_its_promises_on_the_box(box, settings, patience, layer):
    found, status = checked(box, layer, 5400)
    assert [case for case in found["cases"] if case["status"] == "failed"] == []
    assert status == 0
    if layer == "frameworks":
        cases = {case["case"]: case["status"] for case in found["cases"]}
        # the guest has no GPU
        wanted = "not applicable here" if settings.frameworks.gates.gpus else "passed"
        assert {cases[f"{name} computes"] for name in settings.frameworks.checks} == {wanted}
