"""Median, spread and confidence: the few statistics that a result carries."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence

from vault_cube.settings.benchmark import LEAST

RESAMPLES = 4000
"""The ends of a 95 % interval then rest on about 100 resamples each (Efron and Tibshirani 1993, chapter 13)."""

EXACT = 4000
"""Up to so many splits a permutation test tries them all; 7 against 7 are 3,432."""


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval of the median; the same samples give the same interval.

    Raises ValueError for fewer than 5 samples.
    """
    if len(samples) < LEAST:
        raise ValueError(f"{len(samples)} samples give no interval, {LEAST} are the least")
    dice = random.Random(1)  # noqa: S311 resampling is no secret
    medians = sorted(statistics.median(dice.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    tail = round((1 - confidence) / 2 * RESAMPLES)
    return medians[tail], medians[-1 - tail]


def variation(samples: Sequence[float]) -> float:
    """Coefficient of variation: standard deviation over mean; 0 for a single sample."""
    mean = statistics.fmean(samples)
    return statistics.stdev(samples) / abs(mean) if len(samples) > 1 and mean else 0.0


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """How likely two sets from one source differ in their mean logarithm as much as these: two-sided permutation test.

    Exact for up to 4,000 splits, else by as many random ones (Phipson and Smyth 2010: never 0). Samples are positive.
    """
    values = [math.log(value) for value in (*a, *b)]
    total, count = sum(values), len(a)
    rest = len(values) - count

    def gap(part: float) -> float:
        return abs(part / count - (total - part) / rest)

    # sums in another order differ in their last bits
    seen = gap(sum(values[:count])) * (1 - 1e-12)
    if math.comb(len(values), count) <= EXACT:
        gaps = [gap(sum(part)) for part in itertools.combinations(values, count)]
        return sum(one >= seen for one in gaps) / len(gaps)
    dice = random.Random(1)  # noqa: S311
    hits = sum(gap(sum(dice.sample(values, count))) >= seen for _ in range(EXACT))
    return (hits + 1) / (EXACT + 1)
