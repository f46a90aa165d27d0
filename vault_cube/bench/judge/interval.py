"""Statistics of a result: confidence interval of the median, variation, and a permutation test."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence

from vault_cube.settings.benchmark import LEAST

EXACT = 4000
"""Most splits that a permutation test enumerates; 7 against 7 samples have 3,432. Above, it draws random ones."""


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, as two of the samples, for any distribution.

    Order statistics: the r-th smallest and the r-th largest sample enclose the median except in
    2 P(Binomial(n, 1/2) < r) of cases (Conover 1999, section 3.2). 5 samples reach at most 93.75 %; their interval
    spans all of them. Raises ValueError for fewer than 5.
    """
    count = len(samples)
    if count < LEAST:
        raise ValueError(f"{count} samples are too few for an interval; at least {LEAST} are needed")
    ordered = sorted(samples)
    beyond, cut = 1, 0
    while 2 * (beyond + math.comb(count, cut + 1)) <= 0.05 * 2**count:
        cut += 1
        beyond += math.comb(count, cut)
    return ordered[cut], ordered[-1 - cut]


def variation(samples: Sequence[float]) -> float:
    """Return the coefficient of variation, standard deviation over mean; 0 for a single sample."""
    mean = statistics.fmean(samples)
    return statistics.stdev(samples) / abs(mean) if len(samples) > 1 and mean else 0.0


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Return p of a two-sided permutation test on the difference of the mean logarithms of two sample sets.

    The test is exact for up to 4,000 splits; above, it draws 4,000 random ones, and p is never 0 (Phipson and Smyth
    2010). Samples must be positive.
    """
    values = [math.log(value) for value in (*a, *b)]
    total, count = sum(values), len(a)
    rest = len(values) - count

    def gap(part: float) -> float:
        return abs(part / count - (total - part) / rest)

    # tolerate rounding: the same values summed in another order differ in the last bits
    observed = gap(sum(values[:count])) * (1 - 1e-12)
    if math.comb(len(values), count) <= EXACT:
        gaps = [gap(sum(part)) for part in itertools.combinations(values, count)]
        return sum(split >= observed for split in gaps) / len(gaps)
    dice = random.Random(1)  # noqa: S311
    hits = sum(gap(sum(dice.sample(values, count))) >= observed for _ in range(EXACT))
    return (hits + 1) / (EXACT + 1)
