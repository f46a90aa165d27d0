"""The plan of a rollout, and why one stopped."""

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.fleet import rollout

BOXES = [f"b{number}" for number in range(1, 8)]
COMMIT = "c" * 40


def answer(ret, retcode=0):
    return {"ret": ret, "retcode": retcode}


def version(commit=COMMIT, accepted=True):
    return answer({"commit": commit, "applied": True, "accepted": accepted, "previous": None})


@pytest.mark.parametrize("returned", [
    {}, {"b1": False}, {"b1": None}, {"b1": "Minion did not return."}, {"b1": {"out": "no_return", "ret": "x"}},
    {"b1": {"retcode": 0}},
])  # fmt: skip
def test_a_silent_box_has_an_answer_too(returned):
    assert rollout.answers(["b1"], returned) == {"b1": {"ret": rollout.SILENT, "retcode": 1}}


def test_answers_have_an_exit_code():
    returned = {"b1": {"ret": True}, "b2": {"ret": {}, "retcode": 2}, "b9": {"ret": "of no box that was asked"}}
    assert rollout.answers(["b1", "b2"], returned) == {
        "b1": {"ret": True, "retcode": 0}, "b2": {"ret": {}, "retcode": 2},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("done", "canaries", "size", "expected"),
    [
        ([], [], 3, [["b1", "b2", "b3"], ["b4", "b5", "b6"], ["b7"]]),
        ([], ["b5"], 3, [["b5"], ["b1", "b2", "b3"], ["b4", "b6", "b7"]]),
        ([], ["b5", "b2"], 10, [["b5", "b2"], ["b1", "b3", "b4", "b6", "b7"]]),
        (["b5"], ["b5"], 10, [["b1", "b2", "b3", "b4", "b6", "b7"]]),
        (["b1", "b2", "b3"], ["b1"], 2, [["b4", "b5"], ["b6", "b7"]]),
        ([], ["b99"], 7, [BOXES]),
        (BOXES, ["b1"], 2, []),
    ],
)
def test_batches(done, canaries, size, expected):
    assert rollout.batches(BOXES, done, canaries, size) == expected


def test_only_accepted_boxes_are_done():
    versions = {
        "b1": version(),
        "b2": version(accepted=False),
        "b3": version(commit="d" * 40),
        "b4": answer(rollout.SILENT, 1),
        "b5": answer("the pillar is broken", 0),
    }
    assert rollout.done(versions, COMMIT) == ["b1"]


def test_each_batch_is_checked_before_it_is_accepted():
    steps = rollout.install([["b1"], ["b2", "b3"]], COMMIT, "d" * 64, ["base", "driver"])
    functions = [(step.fun, list(step.boxes)) for step in steps]
    per_batch = [
        "checkout.update", "checkout.apply", "layer.check", "layer.check", "gpu.health", "checkout.accept",
    ]  # fmt: skip
    assert functions == [(fun, boxes) for boxes in (["b1"], ["b2", "b3"]) for fun in per_batch]
    assert len({step.name for step in steps}) == len(steps)
    assert steps[0].kwarg == {"commit": COMMIT, "sha256": "d" * 64}
    assert rollout.back([["b1"]], [])[0].fun == "checkout.rollback"


def states(steps, failing=None, **state):
    """The results of steps as Salt returns them; those after the failing one were not run."""
    results = {}
    for number, step in enumerate(steps):
        ret = {box: {} for box in step.boxes}
        result = {"__id__": step.name, "result": True, "comment": "", "changes": {"ret": ret}}
        if number == failing:
            result |= {"result": False, **state}
        if failing is not None and number > failing:
            result |= {"result": False, "comment": "One or more requisite failed", "changes": {}}
        results[f"salt_|-{step.name}_|-{step.fun}_|-function"] = result
    return results


STEPS = rollout.install([["b1", "b2"], ["b3"]], COMMIT, "d" * 64, [])
UNFIT = {"verdict": "fault", "checks": [
    {"check": "lost GPUs", "gpu": 2, "status": "fault", "evidence": "does not answer"},
    {"check": "temperature", "gpu": 0, "status": "ok", "evidence": "38 °C"},
]}  # fmt: skip


def test_a_rollout_that_is_done():
    assert rollout.stopped_at(states(STEPS), STEPS) is None


def test_a_rollout_stops_at_the_first_failing_step_and_names_the_box():
    comment = "Running function gpu.health failed on minions: b2 Function gpu.health ran on b1, b2."
    stopped = rollout.stopped_at(
        states(STEPS, 2, comment=comment, changes={"ret": {"b1": {"verdict": "ok"}, "b2": UNFIT}}), STEPS
    )
    assert stopped["step"] == "batch 1 of 2 (b1, b2): check the GPUs"
    assert stopped["reasons"] == {"b2": "lost GPUs (GPU 2): does not answer"}


def test_a_box_that_does_not_answer_is_named():
    comment = "Running function checkout.apply failed on minions: b1, b2 Function checkout.apply ran on b1."
    stopped = rollout.stopped_at(states(STEPS, 1, comment=comment, changes={"ret": {"b1": False}}), STEPS)
    assert stopped["reasons"] == {"b1": "does not answer", "b2": "does not answer"}


@pytest.mark.parametrize(
    "results", [{}, {"x": {"__id__": "another state", "result": True, "comment": "", "changes": {}}}]
)
def test_a_step_without_a_result_stops_a_rollout(results):
    stopped = rollout.stopped_at(results, STEPS)
    assert stopped["step"] == STEPS[0].name
    assert stopped["reasons"]


@pytest.mark.parametrize(
    ("ret", "text"),
    [
        (UNFIT, "lost GPUs (GPU 2): does not answer"),
        ({"failed": ["a file: no space left"]}, "a file: no space left"),
        ("refused: cmd.run", "refused: cmd.run"),
        (False, "does not answer"),
        ("x\n" * 500, "x x"),
        (None, "None"),
    ],
)
def test_reasons_are_one_short_line(ret, text):
    line = rollout.reason(ret)
    assert line.startswith(text)
    assert "\n" not in line
    assert len(line) <= rollout.SHOWN


KNOWN = ["a1" * 20, "a1b2" * 10, "c" * 40]


@pytest.mark.parametrize(("commit", "full"), [("c" * 7, "c" * 40), ("a1" * 20, "a1" * 20), ("a1b2a1b", "a1b2" * 10)])
def test_the_beginning_of_a_commit_is_enough(commit, full):
    assert rollout.checked_commit(commit, KNOWN) == full


@pytest.mark.parametrize("commit", ["", "c", "c" * 6, "C" * 40, "../../etc/passwd", "*", "c" * 41, None, ["c" * 40], 7])
def test_other_text_is_no_release(commit):
    with pytest.raises(VaultCubeError, match="no such release"):
        rollout.checked_commit(commit, KNOWN)


def test_an_ambiguous_commit():
    with pytest.raises(VaultCubeError, match="2 releases begin with that"):
        rollout.checked_commit("abcdef0", ["abcdef0" + "1" * 33, "abcdef0" + "2" * 33])
