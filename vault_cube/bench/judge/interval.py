"""Median, spread and confidence: the few statistics that a result carries."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence

from vault_cube.settings.benchmark import LEAST

EXACT = 4000
"""Up to so many splits a permutation test tries them all; 7 against 7 are 3,432."""


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """The two samples between which the median lies, whatever the distribution, in at least 95 % of cases.

    Order statistics: the r-th from below and above hold it but for 2 P(Binomial(n, 1/2) < r) of cases (Conover 1999,
    section 3.2). 5 samples reach 93.75 % at most: their interval is all of them. Raises ValueError for fewer.
    """
    count = len(samples)
    if count < LEAST:
        raise ValueError(f"{count} samples give no interval, {LEAST} are the least")
    ordered = sorted(samples)
    beyond, cut = 1, 0
    while 2 * (beyond + math.comb(count, cut + 1)) <= 0.05 * 2**count:
        cut += 1
        beyond += math.comb(count, cut)
    return ordered[cut], ordered[-1 - cut]


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
