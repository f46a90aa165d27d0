"""Inventory, drift over boxes, and boxes that are slower than their twins."""

import csv
import io

import pytest

from vault_cube.box import drift as box_drift
from vault_cube.drift.classes import EXPECTED, REPAIRED, UNKNOWN, UNMANAGED, Finding, summary
from vault_cube.errors import VaultCubeError
from vault_cube.fleet import boxes
from vault_cube.fleet.report import page

H200 = {"name": "NVIDIA H200", "uuid": "GPU-1"}
SILENT = {"ret": "does not answer", "retcode": 1}


def grains(*devices, **more):
    gpu = {"count": len(devices), "devices": list(devices), "driver_version": "580.95.05"}
    return {"ret": {"gpu": gpu, "osfinger": "Debian-12", **more}, "retcode": 0}


ANSWERS = {
    "b2": grains(H200, {"name": "NVIDIA H200", "uuid": "GPU-2"}, gpu_health={"verdict": "fault"}),
    "b1": SILENT,
    "b3": grains(gpu_benchmark={"verdict": "ok", "age_s": 60}),
}


def test_an_inventory_has_a_row_per_box():
    rows = boxes.inventory(ANSWERS)
    assert [row["box"] for row in rows] == ["b1", "b2", "b3"]
    assert rows[0]["problem"] == "does not answer"
    assert rows[0]["gpus"] is None
    assert (rows[1]["model"], rows[1]["health"], rows[1]["uuids"]) == ("2x NVIDIA H200", "fault", ["GPU-1", "GPU-2"])
    assert (rows[2]["model"], rows[2]["benchmark_age_s"]) == (None, 60)


def test_an_inventory_as_csv():
    table = list(csv.reader(io.StringIO(boxes.as_csv(boxes.inventory(ANSWERS)))))
    assert table[0] == list(boxes.COLUMNS)
    assert len(table) == 4
    assert table[2][boxes.COLUMNS.index("uuids")] == "GPU-1 GPU-2"


@pytest.mark.parametrize("name", ['=HYPERLINK("x")', "+1", "-1", "@x", "\tx"])
def test_a_box_cannot_put_a_formula_into_a_spreadsheet(name):
    row = dict.fromkeys(boxes.COLUMNS) | {"driver": name}
    cells = next(csv.DictReader(io.StringIO(boxes.as_csv([row]))))
    assert cells["driver"].startswith("'")


def report_of(*findings, unjudged=(), notes=()):
    """What drift.report returns, from the functions that it calls."""
    result = box_drift.separated({**summary([*findings, *unjudged]), "notes": list(notes)})
    return {"ret": result, "retcode": 1 if unjudged else 2 if result["drifted"] else 0}


CLOCK = Finding(REPAIRED, "/etc/localtime", "it differs", "base.clock: the clock is UTC")
POWER = Finding(REPAIRED, "/etc/power", "it differs", "driver.power: the power cap")
SUDO = Finding(UNMANAGED, "/usr/bin/sudo", "content")
EXPECTED_ONE = Finding(EXPECTED, "/etc/machine-id", "content")


def test_drift_is_listed_by_state_and_by_what_no_state_manages():
    answers = {
        "b1": report_of(CLOCK, POWER, EXPECTED_ONE),
        "b2": report_of(CLOCK, SUDO),
        "b3": report_of(EXPECTED_ONE),
        "b4": SILENT,
        "b5": {"ret": "cannot check for drift: x", "retcode": 1},
    }
    assert boxes.drift(answers) == {
        "states": {"base.clock: the clock is UTC": ["b1", "b2"], "driver.power: the power cap": ["b1"]},
        "unmanaged": {"/usr/bin/sudo": ["b2"]},
        "same": ["b3"],
        "unknown": {"b4": "does not answer", "b5": "cannot check for drift: x"},
    }


def test_a_state_with_two_files_names_a_box_once():
    second = Finding(REPAIRED, "/etc/timezone", "it differs", CLOCK.why)
    assert boxes.drift({"b1": report_of(CLOCK, second)})["states"] == {CLOCK.why: ["b1"]}


def test_a_box_that_is_compared_in_part_is_not_called_the_same():
    unread = Finding(UNKNOWN, "/etc/shadow", "Input/output error")
    result = boxes.drift({"b1": report_of(unjudged=[unread]), "b2": report_of(CLOCK, unjudged=[unread])})
    assert result["same"] == []
    assert result["unknown"] == dict.fromkeys(("b1", "b2"), "/etc/shadow: Input/output error")
    assert result["states"] == {CLOCK.why: ["b2"]}


@pytest.mark.parametrize(
    ("numbers", "slow"),
    [
        ([100, 101, 99, 100, 80], ["b5"]),
        ([100, 101, 99, 100, 95], []),  # 5 % below
        ([100, 60, 140, 80, 120], []),  # all differ
        ([100, 100, 50], ["b3"]),
        ([100, 50], []),  # two have no median
        ([100], []),
        ([], []),
        ([0, 0, 0], []),
        ([100, 100, 100, 120, 100], []),  # a fast one is no fault
        ([100, 101, 99, 60, 60], ["b4", "b5"]),
    ],
)
def test_outliers(numbers, slow):
    values = {f"b{number}": value for number, value in enumerate(numbers, 1)}
    assert list(boxes.outliers(values, 0.08)) == slow


def test_boxes_are_compared_with_their_twins_only():
    five = {f"a{number}": {"matmul": 200.0} for number in range(3)}
    four = {f"b{number}": {"matmul": 100.0} for number in range(3)} | {"b9": {"matmul": 60.0, "other": 1.0}}
    groups = {"8x A": list(five), "8x B": list(four)}
    assert boxes.slow_boxes(groups, five | four, 0.08) == ["b9: matmul: 60% of the median of 4 boxes with 8x B"]


def test_the_medians_of_a_benchmark():
    results = {"b1": {"numbers": {"matmul": {"median": 1.5}, "vllm": {"median": None}}}, "b2": {"verdict": "fault"}}
    assert boxes.medians(results) == {"b1": {"matmul": 1.5}, "b2": {}}


def test_silent_boxes_are_no_twins():
    assert boxes.twins(boxes.inventory(ANSWERS)) == {"2x NVIDIA H200": ["b2"], "no GPU": ["b3"]}


def report(**health):
    versions = {
        "b1": {"ret": {"commit": "c" * 40, "applied": True, "accepted": False, "previous": "image"}, "retcode": 0}
    }
    return page(ANSWERS, health, {**versions, "b2": SILENT}, "2026-11-29 12:00 UTC", 0.08)


CHECK = {"check": "lost GPUs", "gpu": 1, "status": "fault", "evidence": "GPU 1 <does> not answer", "todo": "reboot"}


def test_the_report_names_faults_and_silent_boxes():
    html = report(b1=SILENT, b2={"ret": {"verdict": "fault", "checks": [CHECK]}, "retcode": 2})
    assert "1 fault, 1 unknown" in html
    assert "GPU 1 &lt;does&gt; not answer" in html
    assert "cccccccccccc" in html
    assert 'class="verdict unknown"' in html


def test_a_report_without_faults_says_so():
    html = report(b2={"ret": {"verdict": "ok", "checks": []}, "retcode": 0})
    assert "All checks of gpu.health passed on all boxes." in html
    assert "No box has run" not in html


def test_boxes_train_together_by_name():
    assert boxes.chosen("b1, b2,b1", ["b1", "b2", "b3"]) == ["b1", "b2"]
    assert boxes.chosen(["b1", "b2"], ["b1", "b2"]) == ["b1", "b2"]


@pytest.mark.parametrize("together", ["", None, "b1", "b1,b1", "b1,b9", "b*", "b1,b2;x", {"b1": 1}, 7])
def test_a_wrong_list_of_boxes(together):
    with pytest.raises(VaultCubeError, match="together: ") as caught:
        boxes.chosen(together, ["b1", "b2"])
    assert "\n" not in str(caught.value)


def measured(**numbers):
    return {"ret": {"verdict": "not applicable", "numbers": numbers, "bad": [], "notes": ["gloo"]}, "retcode": 0}


def test_what_boxes_measured_together_is_shown_once():
    result = boxes.trained({"b2": measured(efficiency=0.5), "b1": measured(efficiency=0.51)})
    assert result == {
        "verdicts": dict.fromkeys(("b1", "b2"), "not applicable"), "numbers": {"efficiency": 0.51}, "notes": ["gloo"],
    }  # fmt: skip


def test_a_box_that_did_not_train_leaves_no_number():
    failed = {"verdict": "fault", "numbers": {}, "bad": [{"check": "ddp_boxes", "evidence": "they did not meet"}]}
    for answer in (SILENT, {"ret": failed, "retcode": 2}):
        result = boxes.trained({"b1": measured(efficiency=0.5), "b2": answer})
        assert result["numbers"] == {}
    assert "ddp_boxes: they did not meet" in result["notes"]
