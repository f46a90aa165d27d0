"""Comparison of two results: real changes and noise."""

from tests.unit.bench.conftest import a_result, metric, suite
from vault_cube.bench.judge.compare import compare

FIRST = [100.0, 101.0, 99.0, 100.5, 99.5]


def both(settings, second, better="higher", **workload):
    first, last = (metric(*samples, quantity="x", better=better) for samples in (FIRST, second))
    a = a_result(settings, {"matmul": suite([first], side=1, steps=5)})
    b = a_result(settings, {"matmul": suite([last], **({"side": 1, "steps": 9} | workload))}, "b")
    return compare(a, b, settings.benchmark.compare)


def test_slower_and_faster(settings):
    assert both(settings, [value * 0.9 for value in FIRST])["changes"]["matmul: x"]["means"] == "slower"
    faster = both(settings, [value * 1.1 for value in FIRST])["changes"]["matmul: x"]
    assert (faster["means"], faster["covered"]) == ("faster", False)


def test_a_lower_latency_is_faster(settings):
    assert both(settings, [value * 0.9 for value in FIRST], "lower")["changes"]["matmul: x"]["means"] == "faster"


def test_small_differences_are_noise(settings):
    noise = both(settings, [99.7, 100.9, 99.2, 100.1, 100.4])["changes"]["matmul: x"]
    assert (noise["means"], noise["covered"]) == ("noise", True)


def test_a_significant_change_below_two_percent_counts_as_noise(settings):
    change = both(settings, [102.9, 101.6, 101.4, 101.5, 101.3])["changes"]["matmul: x"]
    assert change["p"] <= 0.01
    assert change["means"] == "noise"


def test_different_workloads_are_not_compared(settings):
    comparison = both(settings, FIRST, side=2)
    assert comparison["changes"] == {}
    assert comparison["missing"] == ["matmul: x: not comparable: the workloads differ"]


def test_a_metric_of_only_one_result_is_missing(settings):
    a = a_result(settings, {"matmul": suite([metric(*FIRST, quantity="x")])}, "a")
    b = a_result(settings, {"matmul": suite([metric(*FIRST, quantity="y")])}, "b")
    assert compare(a, b, settings.benchmark.compare)["missing"] == ["matmul: x: only in a", "matmul: y: only in b"]
