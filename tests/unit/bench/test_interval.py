"""The statistics, checked against known distributions."""

import random
import statistics

import pytest

from vault_cube.bench.judge.interval import median_interval, permutation_p, variation


def test_fewer_than_five_samples_give_no_interval():
    with pytest.raises(ValueError, match="4 samples"):
        median_interval([1, 2, 3, 4])


def test_the_interval_of_a_constant_is_a_point():
    assert median_interval([2.0] * 5) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # by hand from binomial tails at p = 1/2: at most 2.5 % beyond each end; 5 samples reach 3.1 % at best
    [(5, 1, 5), (6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (15, 4, 12), (20, 6, 15)],
)
def test_the_ends_of_the_interval_have_the_expected_ranks(count, low, high):
    shuffled = random.Random(1).sample(range(1, count + 1), count)
    assert median_interval(shuffled) == (low, high)


def test_an_outlier_becomes_the_end_of_the_interval():
    low, high = median_interval([1.0, 1.0, 1.01, 0.99, 9.0])
    assert (low, high) == (0.99, 9.0)


@pytest.mark.parametrize("count", [6, 10, 15, 31])
def test_the_interval_covers_the_true_median(count):
    dice = random.Random(3)
    trials = 1000
    covered = 0
    for _ in range(trials):
        low, high = median_interval([dice.gauss(10, 1) for _ in range(count)])
        covered += low <= 10 <= high
    # three standard deviations of 1,000 trials below 95 %
    assert covered / trials >= 0.93


def test_variation():
    assert variation([10.0]) == 0
    assert variation([9.0, 11.0]) == pytest.approx(statistics.stdev([9, 11]) / 10)


def test_disjoint_samples_give_the_smallest_possible_p():
    # 2 of the 252 splits of 5 against 5 have a difference as large as this
    assert permutation_p([1, 1.1, 1.2, 1.05, 1.15], [2, 2.1, 2.2, 2.05, 2.15]) == pytest.approx(2 / 252)


def test_equal_samples_give_p_one():
    assert permutation_p([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == 1


@pytest.mark.parametrize("count", [5, 9])
def test_noise_is_rarely_reported_as_a_change(count):
    dice = random.Random(5)
    trials = 200
    alarms = 0
    for _ in range(trials):
        a, b = ([dice.gauss(100, 3) for _ in range(count)] for _ in range(2))
        alarms += permutation_p(a, b) <= 0.01
    # 1 % is expected, 2 of 200; 9 would occur once in 5,000 such tests
    assert alarms <= 8


def test_a_change_of_5_percent_is_detected_in_1_percent_of_noise():
    dice = random.Random(7)
    a, b = ([dice.gauss(mean, 1) for _ in range(9)] for mean in (100, 105))
    assert permutation_p(a, b) <= 0.01
