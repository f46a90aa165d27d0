"""drift.report and layer.check on the booted box: all that can run without a GPU, also the frameworks' checks."""

import json

import pytest

LAYERS = [
    *(pytest.param(name, marks=pytest.mark.image) for name in ("base", "driver", "runtime", "validation")),
    # on an emulated processor the imports of the frameworks take a quarter of an hour
    pytest.param("frameworks", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def patience(box):
    """Raise the pillar's time limit on an emulated processor, where importing a framework takes minutes."""
    if box.accelerator == "kvm":
        yield
        return
    local = "/opt/vault-cube/checkout/pillar/local.sls"
    box.ssh(f"printf 'frameworks: {{gates: {{import_s: 1500}}}}\\n' | sudo -n tee {local}")
    yield
    box.ssh(f"sudo -n rm {local}")


def checked(box, layer, timeout_s):
    """Run layer.check. Returns its report and its exit status."""
    done = box.ssh(
        f"sudo -n salt-call --local --log-level=quiet --out=json layer.check {layer}", timeout_s=timeout_s, check=False
    )
    return json.loads(done.stdout)["local"], done.returncode


@pytest.mark.image
def test_a_new_box_has_no_drift(box):
    done = box.ssh("sudo -n salt-call --local --log-level=quiet --out=json drift.report", timeout_s=1800, check=False)
    report = json.loads(done.stdout)["local"]
    assert (report["findings"], report["mode"], done.returncode) == ([], "default", 0)


@pytest.mark.parametrize("layer", LAYERS)
def test_no_check_of_a_layer_fails_on_the_box(box, settings, patience, layer):
    report, status = checked(box, layer, 5400)
    assert [check for check in report["checks"] if check["status"] not in ("ok", "not applicable")] == []
    assert status == 0
    if layer == "frameworks":
        statuses = {check["check"]: check["status"] for check in report["checks"]}
        # the guest has no GPU
        wanted = "not applicable" if settings.frameworks.gates.gpus else "ok"
        assert {statuses[f"{name} computes"] for name in settings.frameworks.checks} == {wanted}
