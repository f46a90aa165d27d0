"""The verdict on the samples of a 24-hour burn-in, per card and per hour."""

import pytest

from tests.unit.bench.conftest import RTX_5090
from vault_cube.bench.judge import burn_card, burn_verdict

CARD = {"name": RTX_5090, "clock_max_mhz": 3090, "power_limit_w": 575.0}
HEALTHY = {
    "temperature_c": 70,
    "power_w": 570,
    "clock_mhz": 2400,
    "throttle": ["sw_power_cap"],
    "xids": [],
    "ecc_uncorrected": 0,
    "pcie_replays": 3,
    "pcie_corrected": 5,
}


def day(cards=1, hours=24, **changes):
    """Yield one sample per minute.

    changes: by field, a function of hour and GPU that returns its value; None leaves it out. The fields `tflops` and
    `products` are those of the work, `boot` that of the sample.
    """
    work = {"tflops": lambda *_: 180.0, "products": lambda *_: 9, "wrong": lambda *_: 0}
    work |= {name: changes.pop(name) for name in list(changes) if name in work}
    boot = changes.pop("boot", lambda _: 1)
    for minute in range(int(hours * 60)):
        hour = minute / 60
        devices, done = {}, {}
        for gpu in range(cards):
            fields = HEALTHY | {name: change(hour, gpu) for name, change in changes.items()}
            devices[f"cuda:{gpu}"] = {name: value for name, value in fields.items() if value is not None}
            made = {name: value(hour, gpu) for name, value in work.items()}
            if made["products"] is not None:
                done[f"cuda:{gpu}"] = {name: value for name, value in made.items() if value is not None}
        yield {"at": minute * 60.0, "boot": boot(hour), "devices": devices, "work": done}


def judged(settings, why=None, cards=1, planned=None, **changes):
    devices = {f"cuda:{gpu}": CARD for gpu in range(cards)} if planned is None else planned
    rules = burn_verdict.Rules(devices, settings.benchmark.stress, settings.benchmark.ceilings)
    return burn_verdict.judge(day(cards, **changes), 86340, why, rules)


@pytest.mark.parametrize("cards", [1, 4])
def test_a_day_without_problems_is_ok(settings, cards):
    verdict = judged(settings, cards=cards)
    assert (verdict["verdict"], verdict["problems"], verdict["whole"]) == ("ok", [], True)
    assert verdict["devices"]["cuda:0"]["clock_later_share"] == 1.0
    for card in verdict["cards"].values():
        assert [(hour["hour"], hour["verdict"]) for hour in card["hours"]] == [(n, "ok") for n in range(1, 25)]


@pytest.mark.parametrize("idle", [1, 3])
def test_a_card_that_never_computed_is_a_fault(settings, idle):
    verdict = judged(settings, cards=4, hours=0.4, products=lambda _, gpu: None if gpu == idle else 9)
    assert verdict["verdict"] == "fault"
    assert verdict["problems"] == [f"cuda:{idle}: computed no product: it cannot be judged"]
    assert {name: card["verdict"] for name, card in verdict["cards"].items()} == {
        f"cuda:{gpu}": "fault" if gpu == idle else "ok" for gpu in range(4)
    }


def test_a_planned_card_without_a_single_sample_is_a_fault(settings):
    verdict = judged(settings, cards=2, planned={f"cuda:{gpu}": CARD for gpu in range(3)})
    assert verdict["problems"] == ["cuda:2: computed no product: it cannot be judged"]


@pytest.mark.parametrize(("slow", "share"), [(1, 0.1), (0, 0.2), (3, 0.7)])
def test_a_card_slower_than_its_siblings_is_a_fault(settings, slow, share):
    verdict = judged(settings, cards=4, hours=3, tflops=lambda _, gpu: 180.0 * (share if gpu == slow else 1))
    assert verdict["verdict"] == "fault"
    assert {name for name, card in verdict["cards"].items() if card["verdict"] != "ok"} == {f"cuda:{slow}"}
    number = f"{180 * share:.4g} TFLOP/s, {share:.0%} of the other cards' median,"
    assert f"cuda:{slow}: {number} in hour 1, and in 2 more hour(s)" in verdict["problems"]


def test_a_card_that_is_slow_for_one_hour_has_the_fault_in_this_hour(settings):
    verdict = judged(settings, cards=4, tflops=lambda hour, gpu: 100.0 if gpu == 2 and 5 <= hour < 6 else 180.0)
    bad = [hour["hour"] for hour in verdict["cards"]["cuda:2"]["hours"] if hour["verdict"] != "ok"]
    assert bad == [6]
    assert "cuda:2: 100 TFLOP/s, 56% of the other cards' median, in hour 6" in verdict["problems"]


@pytest.mark.parametrize("cards", [1, 4])
def test_all_cards_at_a_third_of_their_speed_are_a_fault(settings, cards):
    verdict = judged(settings, cards=cards, hours=1, tflops=lambda *_: 60.0)
    assert verdict["verdict"] == "fault"
    assert len(verdict["problems"]) == cards
    assert verdict["problems"][0] == "cuda:0: 60 TFLOP/s, 29% of 209.5, less than 40% in hour 1"


def test_all_cards_that_are_slow_in_one_hour_have_the_fault_in_this_hour(settings):
    verdict = judged(settings, cards=4, tflops=lambda hour, _: 60.0 if 20 <= hour < 21 else 180.0)
    assert verdict["verdict"] == "fault"
    for card in verdict["cards"].values():
        assert [hour["hour"] for hour in card["hours"] if hour["verdict"] != "ok"] == [21]


def test_a_hiccup_in_the_last_seconds_is_no_hour(settings):
    samples = list(day(4, hours=1.2, tflops=lambda hour, gpu: 10.0 if gpu == 1 and hour > 1.18 else 180.0))
    devices = {f"cuda:{gpu}": CARD for gpu in range(4)}
    rules = burn_verdict.Rules(devices, settings.benchmark.stress, settings.benchmark.ceilings)
    assert burn_verdict.judge(samples, 4000, None, rules)["verdict"] == "ok"


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("clock_mhz", 210, "clock of 210 MHz, 7% of 3090, less than 40% in hour 1"),
        ("clock_mhz", 1000, "clock of 1000 MHz, 32% of 3090, less than 40% in hour 1"),
        ("power_w", 100, "power of 100 W, 17% of 575, less than 50% in hour 1"),
    ],
)
def test_a_clock_or_power_of_a_card_at_rest_is_a_fault(settings, field, value, text):
    verdict = judged(settings, hours=1, **{field: lambda *_: value})
    assert verdict["verdict"] == "fault"
    assert f"cuda:0: {text}" in verdict["problems"][0]


def test_an_unknown_card_without_siblings_is_not_ok(settings):
    unknown = {"cuda:0": CARD | {"name": "NVIDIA Unheard-of"}}
    verdict = judged(settings, hours=1, planned=unknown)
    assert verdict["verdict"] == "uncertain"
    assert "speed not judged: no published figure for NVIDIA Unheard-of" in verdict["problems"][0]


def test_throttling_in_6_of_24_hours_is_a_fault(settings):
    verdict = judged(settings, throttle=lambda hour, _: ["sw_thermal_slowdown"] if hour < 6 else [])
    assert verdict["devices"]["cuda:0"]["throttle_share"] == {"sw_thermal_slowdown": 0.25}
    assert verdict["problems"] == [
        "cuda:0: throttled by sw_thermal_slowdown for 25.0% of the time; at most 0.0% is allowed"
    ]


def test_a_cpu_without_sensors_is_judged_by_its_work(settings):
    samples = [
        {"at": n, "devices": {"cpu": {"utilisation": 1.0}}, "work": {"cpu": {"products": 1, "wrong": 0}}}
        for n in range(9)
    ]
    rules = burn_verdict.Rules({}, settings.benchmark.stress, settings.benchmark.ceilings)
    verdict = burn_verdict.judge(samples, 8, None, rules)
    assert "throttle_share" not in verdict["devices"]["cpu"]
    assert verdict["verdict"] == "ok"


def test_idle_does_not_count_as_throttling(settings):
    assert judged(settings, throttle=lambda *_: ["gpu_idle"])["verdict"] == "ok"


def test_a_clock_that_drops_after_the_first_hour_is_a_fault(settings):
    verdict = judged(settings, clock_mhz=lambda hour, _: 2400 if hour < 2 else 2200)
    assert verdict["verdict"] == "fault"
    assert "median clock after the first hour is 91.7% of the first hour's" in verdict["problems"][0]


def test_wrong_values_are_a_fault_of_their_hour(settings):
    verdict = judged(settings, cards=2, wrong=lambda hour, gpu: int(gpu == 1 and hour == 3))
    assert verdict["problems"] == ["cuda:1: 1 wrong values in 12960 products, the first after 10800 s"]
    assert verdict["cards"]["cuda:0"]["verdict"] == "ok"
    assert verdict["cards"]["cuda:1"]["hours"][3]["wrong"] == 1


@pytest.mark.parametrize(("code", "status"), [(79, "fault"), (48, "fault"), (9999, "fault"), (93, "ok")])
def test_an_xid_is_a_fault_unless_it_is_only_a_note(settings, code, status):
    verdict = judged(settings, xids=lambda hour, _: [code] if hour == 5 else [])
    assert verdict["verdict"] == status
    assert verdict["devices"]["cuda:0"]["xids"] == [{"at": 18000.0, "xid": code}]


def test_an_xid_that_names_no_gpu_is_a_fault(settings):
    samples = [*day(hours=1), {"at": 3600.0, "devices": {"box": {"log": True, "xids": [79]}}, "work": {}}]
    rules = burn_verdict.Rules({"cuda:0": CARD}, settings.benchmark.stress, settings.benchmark.ceilings)
    verdict = burn_verdict.judge(samples, 3600, None, rules)
    assert verdict["problems"] == ["box: XID 79"]


@pytest.mark.parametrize(
    ("counts", "boots", "errors"),
    [
        ([0, 0, 3, 0, 0], [1, 1, 1, 2, 2], 3),
        ([0, 0, 3, 3, 3], [1, 1, 1, 1, 1], 3),
        # the counter began at 0 in the second boot, and had two errors before its first sample
        ([0, 0, 2, 2], [1, 1, 2, 2], 2),
        ([5, 5, 5, 0], [1, 1, 1, 2], 0),
        ([1, 4, 1, 2], [1, 1, 2, 3], 6),
        # the driver was loaded again
        ([0, 7, 1, 1], [1, 1, 1, 1], 8),
    ],
)
def test_counters_survive_a_reboot(settings, counts, boots, errors):
    steps = len(counts)
    verdict = judged(
        settings,
        hours=1,
        ecc_uncorrected=lambda hour, _: counts[int(hour * steps)],
        boot=lambda hour: boots[int(hour * steps)],
    )
    assert verdict["devices"]["cuda:0"]["ecc_uncorrected"] == errors
    lines = [f"cuda:0: {errors} uncorrected ECC errors"] if errors else []
    assert verdict["problems"] == lines


@pytest.mark.parametrize(
    ("field", "text"), [("pcie_replays", "replays of the PCIe link"), ("pcie_corrected", "corrected PCIe errors")]
)
def test_errors_of_the_link_count_by_the_hour(settings, field, text):
    # 20 in 24 hours are few; 500 in one hour are many
    few = judged(settings, **{field: lambda hour, _: int(hour * 20 / 24)})
    assert few["verdict"] == "ok"
    many = judged(settings, cards=2, **{field: lambda hour, gpu: 500 if gpu == 1 and hour >= 7 else 0})
    assert many["verdict"] == "fault"
    assert many["problems"][0].startswith(f"cuda:1: 500 {text}, at most")
    assert many["problems"][0].endswith("in hour 8")


def test_a_failed_reading_now_and_then_is_no_problem(settings):
    # one failed reading in ten hours
    missing = judged(settings, temperature_c=lambda hour, _: None if hour in (3.5, 14) else 70)
    assert missing["verdict"] == "ok"
    assert missing["devices"]["cuda:0"]["unread"] == 2


def test_a_card_whose_temperature_is_often_missing_is_a_fault(settings):
    verdict = judged(settings, temperature_c=lambda hour, _: None if hour < 1 else 70)
    assert verdict["problems"] == ["cuda:0: no temperature in 60 of 1440 samples"]


def test_a_short_peak_is_in_the_curve(settings):
    verdict = judged(settings, temperature_c=lambda hour, _: 89 if 11 < hour < 11.03 else 70)
    curve = verdict["devices"]["cuda:0"]["temperature_c"]["curve"]
    assert len(curve) <= burn_card.POINTS
    assert max(value for _, value in curve) == 89


def test_a_short_dip_of_the_clock_is_in_the_curve(settings):
    verdict = judged(settings, clock_mhz=lambda hour, _: 900 if 11 < hour < 11.03 else 2400)
    assert min(value for _, value in verdict["devices"]["cuda:0"]["clock_mhz"]["curve"]) == 900


def test_an_early_end_is_a_fault(settings):
    assert judged(settings, why="GPU is lost")["verdict"] == "fault"


@pytest.mark.parametrize("planned", [{}, {"cuda:0": CARD}])
def test_a_burn_in_without_samples_is_a_fault(settings, planned):
    assert judged(settings, hours=0, planned=planned)["verdict"] == "fault"


def test_a_burn_in_below_one_hour_has_no_later_clock(settings):
    assert "clock_later_share" not in judged(settings, hours=0.5)["devices"]["cuda:0"]
