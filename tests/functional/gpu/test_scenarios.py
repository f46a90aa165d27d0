"""GPUs that change while they are watched: heat, a card that goes, garbage, a driver that hangs and returns."""

import time

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.facts import facts
from vault_cube.gpu.read.host import Host
from vault_cube.gpu.read.readings import readings
from vault_cube.gpu.show import monitor
from vault_cube.gpu.watch import Watch
from vault_cube.metrics import gpus

ONES = 2**32 - 1


def sampled(session, seconds, every_s=0.1):
    """Readings of all GPUs, again and again for so long."""
    samples, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        samples.append(readings(session, full=False))
        time.sleep(every_s)
    return samples


def test_a_card_that_heats_up(nvml):
    nvml.during(0, 1, 2, temperature={0: "40>95"}, fan={0: "30>100"}, power_mw="24000>575000")
    nvml.during(0.7, 99, 2, throttle=0x40)
    nvml.begin()
    with Session() as session:
        samples = sampled(session, 1.5)
    celsius = [now[2]["temperature_c"] for now in samples]
    assert celsius == sorted(celsius)
    assert celsius[0] < 60
    assert celsius[-1] == 95
    assert samples[-1][2]["throttle"] == ["hw_thermal_slowdown"]
    assert {now[1]["temperature_c"] for now in samples} == {38}


def test_a_card_that_falls_off_in_the_middle(nvml, tmp_path):
    nvml.during(0.5, 99, 2, error=15)
    nvml.begin()
    watch = Watch(Session(), Host(tmp_path))
    with Session() as session:
        assert watch.look() == []
        samples = sampled(session, 1.2)
        assert [(entry["tag"], entry["what"]) for entry in watch.look()] == [("lost", "GPU 2")]
        lost = ["problem" in now[2] for now in samples]
        assert lost == sorted(lost)
        assert {False, True} == set(lost)
        assert not [now for now in samples if any("problem" in now[other] for other in (0, 1, 3))]
        families = {entry.name: entry.samples for entry in gpus.families(session, Host(tmp_path))}
    assert [value for _, value in families["vault_cube_gpu_answers"]] == [1, 1, 0, 1]
    watch.close()


def test_garbage_for_a_while_is_a_gap_and_nothing_else(nvml):
    nvml.during(0.4, 0.9, 2, utilisation={"gpu": ONES}, power_mw=ONES, temperature={0: 255}, clock={1: ONES})
    nvml.begin()
    with Session() as session:
        samples = sampled(session, 1.5, 0.05)
        for name in ("utilisation", "power_w", "temperature_c", "clock_mhz"):
            values = [now[2].get(name) for now in samples]
            assert None in values
            assert values[0] == values[-1] is not None
            assert len(set(values)) == 2
        assert not [now for now in samples if "problem" in now[2]]


def test_an_error_for_a_while_is_one_loss_and_one_return(nvml, tmp_path):
    nvml.during(0.3, 0.8, 1, error=999)
    nvml.begin()
    watch, events = Watch(Session(), Host(tmp_path)), []
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        events += watch.look()
        time.sleep(0.05)
    watch.close()
    assert [(entry["tag"], entry["what"]) for entry in events] == [("lost", "GPU 1"), ("back", "GPU 1")]


def test_a_driver_that_hangs_for_a_while(nvml, tmp_path):
    """All GPUs hang at once, as they do when the driver's own lock is held, and are back."""
    for index in range(4):
        nvml.during(0.5, 2.5, index, hang={"nvmlDeviceGetPowerUsage": 1})
    nvml.begin()
    watch, events = Watch(Session(0.3, later_s=0.3, retry_s=0.2), Host(tmp_path)), []
    until = time.monotonic() + 6
    while time.monotonic() < until and sum(entry["tag"] == "back" for entry in events) < 4:
        events += watch.look()
        time.sleep(0.1)
    watch.close()
    assert sorted((entry["tag"], entry["what"]) for entry in events) == [
        *(("back", f"GPU {n}") for n in range(4)), *(("lost", f"GPU {n}") for n in range(4)),
    ]  # fmt: skip


def test_the_monitor_survives_faults(nvml, tmp_path):
    nvml.during(0.2, 0.5, 0, utilisation={"gpu": ONES})
    nvml.during(0.3, 0.6, 1, error=999)
    nvml.during(0.4, 99, 2, error=15)
    nvml.begin()
    with Session() as session:
        identity, texts = facts(session), []
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            texts.append(monitor.text(monitor.look(session, identity, Host(tmp_path))))
            time.sleep(0.05)
    assert max(map(len, texts)) < 5000
    assert any("Unknown" in text or "unknown error" in text for text in texts)
    assert "lost" in texts[-1]
    assert "unknown error" not in texts[-1]


def test_mig_and_a_mixed_box(nvml, tmp_path):
    """Cards of three families; one of them is split: each has what it has."""
    nvml.profile("8 mixed")
    nvml.gpu(4, mig={"mode": 1, "pending": 1}, utilisation={"gpu": None, "memory": None})
    with Session() as session:
        result = facts(session)
        now = readings(session)
    assert [card.get("mig") for card in result["devices"]] == [None] * 4 + ["enabled", "disabled"] + [None] * 2
    # NVML has no utilisation of a card that is split
    assert [index for index, card in enumerate(now) if "utilisation" not in card] == [4]
    assert "problem" not in result
