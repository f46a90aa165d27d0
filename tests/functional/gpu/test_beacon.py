"""The beacon as a minion runs it: loaded by Salt, over the fake NVML, events with their tags."""

import time

import pytest
import salt.beacons
import salt.loader
from copied import TOP
from fake_host import FakeHost

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.watch import Watch

NAME = "salt/beacon/test/gpu/"


@pytest.fixture
def minion(salt_of):
    """minion() runs the configured beacons once: [(tag, data)]."""
    options = {**salt_of("debian-12").opts, "id": "test", "beacons_dirs": [str(TOP / "_beacons")]}
    options["beacons"] = {"gpu": [{"answer_s": 0.5}]}
    result = salt.beacons.Beacon(options, salt.loader.minion_mods(options))

    def run():
        return [(event["tag"], event["data"]) for event in result.process(options["beacons"], {})]

    yield run
    result.close_beacons()


def test_without_an_event_nothing_is_reported(nvml, minion):
    assert minion() == []
    assert minion() == []


def test_an_xid_is_an_event_with_its_meaning(nvml, minion):
    minion()
    nvml.set(event={0: "2 8 79"})
    ((tag, data),) = minion()
    assert tag == NAME + "xid"
    assert (data["what"], data["xid"], data["weight"]) == ("GPU 2", 79, "fault")
    assert "bus" in data["means"]
    assert data["todo"]
    assert data["simulated"] is True
    assert minion() == []


def test_a_lost_gpu_and_its_return_are_reported_once(nvml, minion):
    minion()
    nvml.gpu(1, error={"nvmlDeviceGetUtilizationRates": 15})
    ((tag, data),) = minion()
    assert tag == NAME + "lost"
    assert data["what"] == "GPU 1"
    assert "lost" in data["problem"]
    assert minion() == []
    nvml.gpu(1, error={"nvmlDeviceGetUtilizationRates": 0})
    ((tag, data),) = minion()
    assert (tag, data["what"]) == (NAME + "back", "GPU 1")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"interval": 1}, "is a list"),
        ([{"intervall": 1}], "no such setting: intervall"),
        ([{"interval": 1}], "answer_s: give the time limit"),
        ([{"answer_s": "ten"}], "answer_s: give the time limit"),
        ([{"answer_s": 0}], "answer_s: give the time limit"),
        ([{"interval": 1}, {"answer_s": 10}], ""),
    ],
)
def test_a_configuration_that_is_wrong_is_said(salt_of, config, says):
    options = {**salt_of("debian-12").opts, "beacons_dirs": [str(TOP / "_beacons")]}
    good, why = salt.loader.beacons(options, {})["gpu.validate"](config)
    assert good == (not says)
    assert says in why


def test_the_time_limit_is_the_configured_one(nvml, minion):
    minion()
    nvml.gpu(3, hang={"nvmlDeviceGetUtilizationRates": 1})
    ((tag, data),) = minion()
    assert tag == NAME + "lost"
    assert "gave no answer within 0.5 s" in data["problem"]


@pytest.fixture
def watch():
    made = Watch(Session(0.5))
    yield made
    made.close()


def test_a_machine_that_never_had_a_driver_has_no_events(watch, monkeypatch):
    monkeypatch.setattr("vault_cube.gpu.nvml.failures.LIBRARY", "libnvidia-ml-nowhere.so.1")
    assert watch.look() == []
    assert watch.look() == []


def test_a_removed_driver_is_reported_once(nvml, watch):
    watch.look()
    nvml.set(error={"nvmlInitWithFlags": 9})
    watch._session.close()  # the module was unloaded: a new child finds that out
    (event,) = watch.look()
    assert (event["tag"], event["what"]) == ("lost", "driver")
    assert "kernel module" in event["problem"]
    assert watch.look() == []


def test_a_hung_driver_is_reported_and_the_minion_continues(nvml, watch):
    watch.look()
    nvml.gpu(3, hang={"nvmlDeviceGetUtilizationRates": 1})
    (event,) = watch.look()
    assert (event["tag"], event["what"]) == ("lost", "GPU 3")
    assert "hangs" in event["problem"]


def test_a_gpu_that_is_not_listed_any_more(nvml, watch):
    watch.look()
    gone = nvml.state["gpus"].pop()
    nvml.save()
    watch._session.close()
    (event,) = watch.look()
    assert (event["tag"], event["what"]) == ("lost", "count")
    assert event["problem"] == "the driver lists 3 GPUs, 4 before"
    nvml.state["gpus"].append(gone)
    nvml.save()
    watch._session.close()
    assert watch.look() == [{"tag": "back", "what": "count", "simulated": True}]


def test_a_gpu_that_hung_is_asked_again_and_is_back(nvml, tmp_path):
    watch = Watch(Session(0.5, later_s=0.5, retry_s=0.2), Host(tmp_path))
    watch.look()
    nvml.gpu(1, hang={"nvmlDeviceGetUtilizationRates": 1})
    assert [(entry["tag"], entry["what"]) for entry in watch.look()] == [("lost", "GPU 1")]
    time.sleep(0.3)
    # it still hangs: nothing new
    assert watch.look() == []
    nvml.gpu(1, hang={"nvmlDeviceGetUtilizationRates": 0})
    time.sleep(0.3)
    assert [(entry["tag"], entry["what"]) for entry in watch.look()] == [("back", "GPU 1")]
    watch.close()


@pytest.mark.parametrize("index", [0, 1, 3])
def test_an_xid_after_a_hang_is_heard(nvml, tmp_path, index):
    watch = Watch(Session(0.5, later_s=0.5, retry_s=60), Host(tmp_path))
    watch.look()
    nvml.gpu(1, hang={"nvmlDeviceGetUtilizationRates": 1})
    watch.look()
    nvml.set(event={0: f"{index} 8 79"})
    assert [(entry["tag"], entry["what"], entry["xid"]) for entry in watch.look()] == [("xid", f"GPU {index}", 79)]
    watch.close()


def test_a_gpu_that_hangs_while_it_is_listened_to(nvml, tmp_path):
    watch = Watch(Session(0.5, later_s=0.3, retry_s=60), Host(tmp_path))
    watch.look()
    nvml.gpu(1, hang={"nvmlDeviceGetUtilizationRates": 1, "nvmlDeviceRegisterEvents": 1})
    assert [entry["what"] for entry in watch.look()] == ["GPU 1"]
    nvml.set(event={0: "2 8 48"})
    assert [(entry["what"], entry["xid"]) for entry in watch.look()] == [("GPU 2", 48)]
    watch.close()


def test_gpus_that_go_and_come_while_nvml_stays_open(nvml, tmp_path):
    watch = Watch(Session(), Host(tmp_path))
    watch.look()
    gone = nvml.state["gpus"].pop()
    nvml.save()
    assert [(entry["tag"], entry["what"]) for entry in watch.look()] == [("lost", "count")]
    nvml.state["gpus"].append(gone)
    nvml.save()
    assert [(entry["tag"], entry["what"]) for entry in watch.look()] == [("back", "count")]
    nvml.state["gpus"].append({**gone, "bus_id": "00000000:91:00.0"})
    nvml.save()
    assert [(entry["tag"], entry["what"]) for entry in watch.look()] == [("added", "GPU 4")]
    watch.close()


def test_a_change_of_the_bus_opens_nvml_again(nvml, tmp_path):
    host = FakeHost.make(tmp_path / "box", nvml.state["gpus"])
    watch = Watch(Session(), host)
    watch.look()
    first = watch._session.generation
    watch.look()
    assert watch._session.generation == first
    host.add_gpu("00000000:91:00.0")
    watch.look()
    assert watch._session.generation == first + 1
    watch.close()


def test_the_kernel_s_log_has_what_nvml_does_not_tell(nvml, tmp_path):
    host = FakeHost.make(tmp_path / "box", nvml.state["gpus"])
    host.xid("00000000:51:00.0", 13, "from before the first look")
    watch = Watch(Session(), host)
    assert watch.look() == []
    host.kernel_line("NVRM: GPU 0000:51:00.0: GPU has fallen off the bus.")
    host.kernel_line("NVRM: Xid (PCI:0000:31:00 GPU-I:05): 95, pid=1, Uncontained")
    host.xid("00000000:c1:00.0", 79, "a card that is gone")
    seen = [(entry["what"], entry["xid"], entry["weight"]) for entry in watch.look()]
    assert seen == [("GPU 2", 79, "fault"), ("GPU 1", 95, "fault"), ("GPU ? at 0000:c1:00", 79, "fault")]
    assert watch.look() == []
    watch.close()


@pytest.mark.parametrize("late", [False, True])
def test_an_xid_in_both_is_one_event(nvml, tmp_path, late):
    host = FakeHost.make(tmp_path / "box", nvml.state["gpus"])
    watch = Watch(Session(), host)
    watch.look()
    nvml.set(event={0: "2 8 31", 1: "2 8 31"})
    count = 0 if not late else len(watch.look())
    host.xid("00000000:51:00.0", 31, "MMU Fault")
    host.xid("00000000:51:00.0", 31, "MMU Fault")
    assert count + len(watch.look()) == 2
    watch.close()
