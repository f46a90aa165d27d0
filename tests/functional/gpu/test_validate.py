"""gpu.validate and layer.check driver: the pillar's expectations of the GPUs, met or not."""

import pytest

from vault_cube.gpu.health.validate import verdicts
from vault_cube.gpu.nvml.session import Session
from vault_cube.verdicts import FAILED, NOT_APPLICABLE, PASSED


def said(box, load=False):
    with Session() as session:
        return {one.case: one for one in verdicts(session, box.pillar, box.host, load=load)}


def test_a_box_as_expected(box):
    found = said(box)
    assert {one.status for one in found.values()} == {PASSED, NOT_APPLICABLE}
    assert found["count"].evidence == "4"
    assert found["model"].evidence == "4 x NVIDIA GeForce RTX 5090"
    # an idle link tells nothing: it neither passes nor fails
    assert found["pcie link"].status == NOT_APPLICABLE


def test_any_number_of_any_model(box):
    box.be("8 mixed")
    found = said(box)
    assert FAILED not in {one.status for one in found.values()}
    assert found["count"].evidence == "8"


def test_links_under_load_meet_the_gate(box, cuda):
    for index in range(4):
        box.nvml.gpu(index, pcie={"generation_busy": 5})
    box.pillar["gpu"]["health"]["load_s"] = 0.3
    assert said(box, load=True)["pcie link"].status == PASSED


@pytest.mark.parametrize(
    ("gpu", "case"),
    [
        ({"name": "NVIDIA GeForce RTX 4090"}, "model"),
        ({"memory": {"total": 24576 << 20}}, "memory"),
        ({"memory": {"total": None}}, "memory"),
        ({"temperature": {0: 60}}, "idle temperature"),
        ({"persistence": 0}, "persistence"),
        ({"power_limit_mw": 400000}, "power cap"),
        ({"pcie": {"width_max": 8}}, "pcie slot"),
        ({"error": 15}, "answers"),
        ({"compute_mode": 2}, "compute mode"),
    ],
)
def test_what_is_not_as_expected_fails(box, gpu, case):
    box.nvml.gpu(3, **gpu)
    found = said(box)
    failed = {name for name, one in found.items() if one.status == FAILED}
    assert case in failed
    assert failed <= {case, "answers"}
    assert "GPU" in found[case].evidence


def test_a_missing_gpu_fails(box):
    box.nvml.state["gpus"].pop()
    box.nvml.save()
    found = said(box)
    assert found["count"].status == FAILED
    assert "0000:71:00.0 does not answer" in found["count"].evidence


def test_without_a_driver_nothing_passes(box):
    box.nvml.set(init_error=9)
    found = said(box)
    assert found["driver answers"].status == FAILED
    assert found["count"].status == FAILED
