"""The verdict on the samples of a 24-hour burn-in."""

import pytest

from vault_cube.bench.judge import burn_verdict


def day(**changes):
    """Yield one sample per minute of a day. changes: by field, a function of the hour that returns its value."""
    for minute in range(24 * 60):
        fields = {
            "temperature_c": 70,
            "power_w": 570,
            "clock_mhz": 2400,
            "throttle": ["sw_power_cap"],
            "xids": [],
            "ecc_uncorrected": 0,
        }
        fields |= {name: change(minute / 60) for name, change in changes.items()}
        yield {
            "at": minute * 60.0,
            "devices": {"cuda:0": fields},
            "work": {"cuda:0": {"products": 9, "wrong": 0, "tflops": 180.0}},
        }


def judged(settings, why=None, **changes):
    return burn_verdict.judge(day(**changes), 86340, why, settings.benchmark.stress)


def test_a_day_without_problems_passes(settings):
    verdict = judged(settings)
    assert (verdict["said"], verdict["problems"], verdict["whole"]) == ("pass", [], True)
    assert verdict["devices"]["cuda:0"]["clock_later_share"] == 1.0


def test_throttling_in_6_of_24_hours_fails(settings):
    verdict = judged(settings, throttle=lambda hour: ["sw_thermal_slowdown"] if hour < 6 else [])
    assert verdict["devices"]["cuda:0"]["throttle_share"] == {"sw_thermal_slowdown": 0.25}
    assert verdict["problems"] == [
        "cuda:0: throttled by sw_thermal_slowdown for 25.0% of the time; at most 0.0% is allowed"
    ]


def test_a_device_without_a_throttle_sensor_has_no_throttle_share(settings):
    fields = {"cpu": {"utilisation": 1.0}}
    samples = [{"at": n, "devices": fields, "work": {"cpu": {"products": 1, "wrong": 0}}} for n in range(9)]
    verdict = burn_verdict.judge(samples, 8, None, settings.benchmark.stress)
    assert "throttle_share" not in verdict["devices"]["cpu"]
    assert verdict["said"] == "pass"


def test_idle_does_not_count_as_throttling(settings):
    assert judged(settings, throttle=lambda _: ["gpu_idle"])["said"] == "pass"


def test_a_clock_that_drops_after_the_first_hour_fails(settings):
    verdict = judged(settings, clock_mhz=lambda hour: 2400 if hour < 2 else 2200)
    assert verdict["said"] == "fail"
    assert "median clock after the first hour is 91.7% of the first hour's" in verdict["problems"][0]


def test_an_xid_and_new_ecc_errors_are_reported(settings):
    verdict = judged(
        settings, xids=lambda hour: [79] if hour == 5 else [], ecc_uncorrected=lambda hour: 3 if hour < 7 else 5
    )
    assert verdict["problems"] == ["cuda:0: XID 79", "cuda:0: 2 uncorrected ECC errors"]


def test_a_short_peak_is_in_the_curve(settings):
    verdict = judged(settings, temperature_c=lambda hour: 89 if 11 < hour < 11.03 else 70)
    curve = verdict["devices"]["cuda:0"]["temperature_c"]["curve"]
    assert len(curve) <= burn_verdict.POINTS
    assert max(value for _, value in curve) == 89


def test_a_short_dip_of_the_clock_is_in_the_curve(settings):
    verdict = judged(settings, clock_mhz=lambda hour: 900 if 11 < hour < 11.03 else 2400)
    assert min(value for _, value in verdict["devices"]["cuda:0"]["clock_mhz"]["curve"]) == 900


def test_an_early_end_is_a_fault(settings):
    assert judged(settings, why="GPU is lost")["said"] == "fault"


def test_a_burn_in_without_samples_is_a_fault(settings):
    verdict = burn_verdict.judge([], 60, None, settings.benchmark.stress)
    assert verdict["said"] == "fault"


@pytest.mark.parametrize("hours", [0.5])
def test_a_burn_in_below_one_hour_has_no_later_clock(settings, hours):
    verdict = burn_verdict.judge(list(day())[: int(hours * 60)], hours * 3600, None, settings.benchmark.stress)
    assert "clock_later_share" not in verdict["devices"]["cuda:0"]
