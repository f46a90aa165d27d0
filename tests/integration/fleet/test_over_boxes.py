"""`gpu.benchmark ddp boxes=2`: two boxes of the built image's layers, each in its own namespaces, train one model.

Needs the layers up to frameworks in the cache (`make image`) and root. Both boxes have the processors of this machine,
and train over gloo, so the numbers measure nothing.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from base_tree import built, chosen_workspace
from copied import SOURCES
from machines import TOP, Machine, Network, command_line

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces: needs root")]
CHECKOUT = "/opt/vault-cube/checkout"
QUICK = {"rounds": 1, "repeats": 5, "seconds": 0.2, "steady_s": 1, "limits_s": {"ddp": 300}}


@pytest.fixture(scope="module")
def boxes():
    """Two boxes with this checkout, on one network, without GPUs."""
    trees = built(chosen_workspace("debian-12"))
    if "frameworks" not in trees:
        pytest.fail("the layers of debian-12 are not built: run `make image`")
    names = list(trees)
    layers = [trees[name] for name in reversed(names[: names.index("frameworks") + 1])]
    folder = Path(tempfile.mkdtemp(prefix="vcb-", dir="/run"))
    machines = []
    try:
        machines.append(Machine("hub", folder))
        network = Network(machines[0])
        for name in ("b1", "b2"):
            box = Machine(name, folder, layers)
            machines.append(box)
            network.plug(box)
            box.path(CHECKOUT).mkdir(parents=True, exist_ok=True)
            present = [TOP / source for source in SOURCES if (TOP / source).exists()]
            subprocess.run(["cp", "-r", *present, box.path(CHECKOUT)], check=True)
            choose(box)
        yield network, machines[1:]
    finally:
        for machine in reversed(machines):
            machine.end()
        shutil.rmtree(folder, ignore_errors=True)


def choose(box, wait_s=120, **quick):
    pillar = {"benchmark": {"quick": {**QUICK, **quick}, "together": {"wait_s": wait_s}}}
    box.path(f"{CHECKOUT}/pillar/local.sls").write_text(yaml.safe_dump(pillar))


def train(box, rendezvous, count=2):
    """Run the benchmark. Returns its exit status, its answer, and its whole result."""
    words = ["gpu.benchmark", "ddp", "quick=True", "force=True", f"boxes={count}", f"rendezvous={rendezvous}"]
    ran = box.run("/opt/vault-cube/salt/bin/salt-call", "--local", "--out=json", *words, ok=False, timeout=900)
    try:
        answer = json.loads(ran.stdout)["local"]
    except ValueError:
        raise AssertionError(f"{box.name}: {ran.stdout}{ran.stderr}") from None
    assert isinstance(answer, dict), answer
    file = box.path(answer["file"])
    return ran.returncode, answer, json.loads(file.read_text())


def together(boxes, meanwhile=lambda: None):
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(train, box, boxes[0].address) for box in boxes]
        meanwhile()
        return [run.result() for run in runs]


def workers(box):
    """The pids of the training processes of a box, seen from here."""
    root = box.path("/").stat().st_ino
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        if "workloads/ddp.py" in command_line(entry.name):
            try:
                pids += [entry.name] if (entry / "root").stat().st_ino == root else []
            except OSError:
                continue
    return pids


@pytest.fixture(autouse=True)
def no_process_left(boxes):
    yield
    until = time.monotonic() + 15
    while any(workers(box) for box in boxes[1]) and time.monotonic() < until:
        time.sleep(0.2)
    assert [workers(box) for box in boxes[1]] == [[], []]


def test_two_boxes_train_one_model(boxes):
    runs = together(boxes[1])
    for status, answer, result in runs:
        suite = result["suites"]["ddp_boxes"]
        assert suite["status"] == "measured", suite["reason"]
        assert (suite["workload"]["backend"], suite["workload"]["devices"]) == ("gloo", 4)
        assert suite["workload"]["boxes"] == ["b1", "b2"]
        metrics = {(metric["quantity"], metric["subject"]): metric["samples"] for metric in suite["metrics"]}
        for model in ("transformer", "resnet"):
            whole, shared, sent = (
                metrics[quantity, model] for quantity in ("efficiency", "efficiency shared", "efficiency communication")
            )
            assert len(whole) == 5
            for number, efficiency in enumerate(whole):
                assert efficiency == pytest.approx(shared[number] * sent[number])
        devices = {metric["device"] for metric in suite["metrics"] if metric["quantity"] == "training alone"}
        assert devices == {f"{box} cpu:{number}" for box in ("b1", "b2") for number in range(2)}
        assert (status, answer["verdict"]) == (0, "not applicable")
        assert any("this says nothing about GPUs" in note for note in answer["notes"])
    # one training, measured from both sides
    one, other = (run[1]["numbers"]["ddp_boxes: efficiency transformer"]["median"] for run in runs)
    assert one == pytest.approx(other, rel=0.2)


def test_the_grain_keeps_the_result_of_the_box_alone(boxes):
    words = ("/opt/vault-cube/salt/bin/salt-call", "--local", "--out=json", "grains.item", "gpu_benchmark")
    grain = json.loads(boxes[1][0].run(*words).stdout)["local"].get("gpu_benchmark")
    assert not grain


@pytest.mark.parametrize("number", [0, 1])
def test_a_box_that_waits_in_vain_says_what_to_do(boxes, number):
    _, machines = boxes
    for box in machines:
        choose(box, wait_s=15)
    started = time.monotonic()
    status, answer, result = train(machines[number], machines[0].address)
    assert time.monotonic() - started < 120
    assert status == 2
    assert "run the same command on each of them" in result["suites"]["ddp_boxes"]["reason"]
    assert answer["numbers"] == {}


def test_a_box_that_is_cut_off_while_it_trains_ends_the_run_on_both(boxes):
    network, machines = boxes
    for box in machines:
        choose(box, limits_s={"ddp": 60}, wait_s=60)

    def cut():
        until = time.monotonic() + 100
        while not all(len(workers(box)) >= 2 for box in machines):
            assert time.monotonic() < until, "the training does not begin"
            time.sleep(0.5)
        time.sleep(10)
        network.cut(machines[1])

    try:
        runs = together(machines, cut)
    finally:
        network.mend(machines[1])
    for status, answer, result in runs:
        assert result["suites"]["ddp_boxes"]["status"] == "failed"
        assert (status, answer["numbers"]) == (2, {})
