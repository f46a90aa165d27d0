"""The beacon as a minion runs it: loaded by Salt, over the fake NVML, events with their tags."""

import time
from pathlib import Path

import pytest
import salt.beacons
import salt.loader

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.watch import Watch

TOP = Path(__file__).parents[3]
NAME = "salt/beacon/test/gpu/"


@pytest.fixture
def minion(salt_of):
    """minion() runs the configured beacons once: [(tag, data)]."""
    options = {**salt_of("debian-12").opts, "id": "test", "beacons_dirs": [str(TOP / "_beacons")]}
    options["beacons"] = {"gpu": [{"answer_s": 0.5}]}
    found = salt.beacons.Beacon(options, salt.loader.minion_mods(options))

    def run():
        return [(event["tag"], event["data"]) for event in found.process(options["beacons"], {})]

    yield run
    found.close_beacons()


def test_nothing_happens_and_nothing_is_told(nvml, minion):
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


def test_a_lost_gpu_is_told_once_and_so_is_its_return(nvml, minion):
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
    began = time.monotonic()
    ((tag, data),) = minion()
    assert tag == NAME + "lost"
    assert "hangs" in data["problem"]
    assert time.monotonic() - began < 5


@pytest.fixture
def watch():
    made = Watch(Session(0.5))
    yield made
    made.close()


def test_a_machine_that_never_had_a_driver_has_no_events(watch, monkeypatch):
    monkeypatch.setattr("vault_cube.gpu.nvml.failures.LIBRARY", "libnvidia-ml-nowhere.so.1")
    assert watch.look() == []
    assert watch.look() == []


def test_a_driver_that_goes_is_told_once(nvml, watch):
    watch.look()
    nvml.set(error={"nvmlInitWithFlags": 9})
    watch._session.close()  # the module was unloaded: a new child finds that out
    (event,) = watch.look()
    assert (event["tag"], event["what"]) == ("lost", "driver")
    assert "kernel module" in event["problem"]
    assert watch.look() == []


def test_a_driver_that_hangs_is_told_and_the_minion_goes_on(nvml, watch):
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
    assert event["problem"] == "the driver lists 3 GPUs, and 4 before"
    nvml.state["gpus"].append(gone)
    nvml.save()
    watch._session.close()
    assert watch.look() == [{"tag": "back", "what": "count", "simulated": True}]
