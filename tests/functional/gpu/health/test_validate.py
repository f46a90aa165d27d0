"""gpu.validate and layer.check driver: the pillar's expectations of the GPUs, met or not."""

import pytest

from vault_cube.gpu.health.validate import validate
from vault_cube.gpu.nvml.session import Session
from vault_cube.verdicts import NOT_APPLICABLE, OK


@pytest.fixture
def verdicts(box):
    """verdicts(load) compares the box with its pillar. Returns the verdicts by check and GPU (None: the box)."""

    def run(load=False):
        with Session() as session:
            report = validate(session, box.settings(), box.host, load=load)
        return {(verdict.check, verdict.gpu): verdict for verdict in report.verdicts}

    return run


def test_a_box_as_expected(box, verdicts):
    by_check = verdicts()
    assert {verdict.status for verdict in by_check.values()} == {OK, NOT_APPLICABLE}
    assert by_check["count", None].evidence == "4"
    assert by_check["model", None].evidence == "4 x NVIDIA GeForce RTX 5090"
    # an idle link may be slow: it neither passes nor fails
    assert by_check["pcie link", 2].status == NOT_APPLICABLE


def test_any_number_of_any_model(box, verdicts):
    box.be("8 mixed")
    by_check = verdicts()
    assert not [verdict for verdict in by_check.values() if verdict.bad]
    assert by_check["count", None].evidence == "8"


def test_links_under_load_meet_the_threshold(box, cuda, verdicts):
    for index in range(4):
        box.nvml.gpu(index, pcie={"generation_busy": 5})
    box.pillar["gpu"]["health"]["load_s"] = 0.3
    assert {verdicts(load=True)["pcie link", gpu].status for gpu in range(4)} == {OK}


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
def test_a_gpu_that_is_not_as_expected_is_named(box, verdicts, gpu, case):
    box.nvml.gpu(3, **gpu)
    bad = {check: verdict for (check, index), verdict in verdicts().items() if verdict.bad and index in (None, 3)}
    assert case in bad
    assert set(bad) <= {case, "answers"}
    assert bad[case].gpu == 3 or "GPU 3" in bad[case].evidence


def test_a_missing_gpu_is_a_fault(box, verdicts):
    box.nvml.state["gpus"].pop()
    box.nvml.save()
    count = verdicts()["count", None]
    assert count.status == "fault"
    assert "0000:71:00.0 does not answer" in count.evidence


def test_without_a_driver_nothing_passes(box, verdicts):
    box.nvml.set(init_error=9)
    by_check = verdicts()
    assert by_check["driver answers", None].status == "fault"
    assert by_check["count", None].status == "fault"
