"""What a few trainings say of the error of a configuration, and of the difference of two.

Errors are in percent. The trainings of a configuration differ by their seeds and are tested on the same images: all but
the last two functions speak of the mean or the median over seeds *on these images*. The images are a sample too, which
no number of seeds makes larger: `test_set_error`.

The laws are those of scipy.special: scipy.stats has the same at a hundred times the cost of a call, and a race calls
them for each pair of finalists after each seed.

A tested error is a count of images, so it moves in steps: `resolution`, 100 / images percent. Seeds that differ by less
give equal errors, whose deviation of 0 says nothing. With a `resolution` no deviation is taken below half of it, the
largest that two neighbouring counts can have; without one, equal errors have no interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import fmean

import numpy as np
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

LEVEL = 0.95  # of all intervals and comparisons
ROUNDING = 1e-9  # points: figures of the same counts of images may differ by this
MANY = 10_000  # trainings
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
QUANTILES, WEIGHTS = (1 + _NODES) / 2, _WEIGHTS / 2  # of the mean over a law given by its quantiles


@dataclass(frozen=True)
class Interval:
    """Where a figure lies, in its unit."""

    low: float
    high: float
    level: float  # the share of such intervals that hold the true figure, such as 0.95


@dataclass(frozen=True)
class Difference:
    """Mean of A less mean of B, in points."""

    mean: float
    low: float
    high: float
    p_value: float  # two-sided: how often as large a difference is seen where there is none


@dataclass(frozen=True)
class _Sample:
    size: int
    mean: float
    variance: float  # of a single value


def mean_interval(values: Sequence[float], level: float = 0.95, resolution: float | None = None) -> Interval | None:
    """The interval of the mean: mean -+ t s / sqrt(n) (Student, "The probable error of a mean", Biometrika 1908).

    It supposes that errors of single trainings are about normal; it is too short for few values of a skewed law.
    None for fewer than 2 values, and for equal values without `resolution`.
    """
    sample = _sample(values, resolution)
    if sample is None:
        return None
    half = _quantile(level, sample.size - 1) * sqrt(sample.variance / sample.size)
    return Interval(sample.mean - half, sample.mean + half, level)


def mean_error_interval(errors: Sequence[float], level: float, resolution: float | None = None) -> Interval | None:
    """`mean_interval` of errors in percent, as it is shown: it ends at 0 and at 100 %, beyond which no error lies."""
    found = mean_interval(errors, level, resolution)
    return None if found is None else Interval(max(0.0, found.low), min(100.0, found.high), level)


def median_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """The interval of the median between two of the values: the shortest symmetric one that is right at `level`.

    The r-th lowest and the r-th highest of n values hold the median with probability 1 - 2 P(fewer than r of n coins
    show heads) or more, whatever the law (Thompson, Annals of Mathematical Statistics 1936): that is the `level` of the
    interval. Of fewer values than `level` needs (6 for 0.95) it is their whole range, with its own level 1 - 2^(1 - n).
    None for fewer than 2 values.

    A percentile bootstrap ends at such values too, but at ones too far inside: with 7 values its 95 % are 87.5 %.
    """
    n, ordered = len(values), sorted(values)
    if n < 2:
        return None
    levels = {r: 1 - 2 * float(special.bdtr(r - 1, n, 0.5)) for r in range(1, n // 2 + 1)}
    r = max((r for r, held in levels.items() if held >= level), default=1)
    return Interval(ordered[r - 1], ordered[-r], levels[r])


def difference(
    a: Sequence[float], b: Sequence[float], level: float = 0.95, resolution: float | None = None
) -> Difference | None:
    """The means' difference, its interval and p (Welch, Biometrika 1947), for independent trainings of any spreads.

    The interval ends at -100 and at 100 points, which errors in percent cannot differ by more than.

    None where a side has fewer than 2 values, or equal ones without `resolution`.
    """
    first, second = _sample(a, resolution), _sample(b, resolution)
    if first is None or second is None:
        return None
    mean, error, freedom = _welch(first, second)
    half = _quantile(level, freedom) * error
    low, high = max(-100.0, mean - half), min(100.0, mean + half)
    return Difference(mean, low, high, 2 * float(special.stdtr(freedom, -abs(mean) / error)))


def probability_lower(a: Sequence[float], b: Sequence[float], resolution: float | None = None) -> float | None:
    """The probability that A's mean error over all seeds is below B's, by these trainings alone.

    The one-sided level at which Welch's interval of the difference just leaves out 0; read as a probability it supposes
    that beforehand any difference, however large, was as likely as any other (Behrens and Fisher's problem in Welch's
    approximation). Where configurations are alike it says too much, the more so of the best of several. It is not the
    probability that one training of A errs less than one of B. None as for `difference`.
    """
    found = difference(a, b, resolution=resolution)
    if found is None:
        return None
    return found.p_value / 2 if found.mean > 0 else 1 - found.p_value / 2


def power(difference: float, deviations: tuple[float, float], seeds: int, level: float = 0.95) -> float:
    """Probability that `difference`, with `seeds` trainings of either, finds a difference of the means at `level`.

    Args:
        difference: the true one, in points.
        deviations: the true standard deviations of single trainings, in points.
        seeds: 2 or more.

    Exact for normal errors. Given the share u that A has of both observed variances, their sum is still a multiple of
    chi squared, so t squared is one of the noncentral F, and Welch's critical value depends on u alone: what is left
    is the mean over u, whose law is that of a beta's odds. Student's test (Cohen, "Statistical Power Analysis", 1988,
    ch. 2) has more: its critical value supposes equal deviations.
    """
    of_a, of_b = (deviation**2 for deviation in deviations)
    freedom = seeds - 1
    beta = special.betaincinv(freedom / 2, freedom / 2, QUANTILES)
    u = of_a * beta / (of_a * beta + of_b * (1 - beta))
    critical = special.fdtri(1, freedom / (u**2 + (1 - u) ** 2), level)
    scale = (of_a + of_b) / 2 * (u / of_a + (1 - u) / of_b)
    missed = special.ncfdtr(1, 2 * freedom, seeds * difference**2 / (of_a + of_b), critical / scale)
    return 1 - float(WEIGHTS @ missed)


def seeds_needed(
    a: Sequence[float],
    b: Sequence[float],
    level: float = 0.95,
    power: float = 0.8,
    resolution: float | None = None,
) -> int | None:
    """The fewest trainings of either with which the difference seen here would be found so often, were it the true one.

    Difference and deviations are put in as seen, and of few trainings both are rough: where 9 of either are needed, it
    says 5 or fewer after one in four experiments of 3 each, and 18 or more after another. It names a number also where
    there is no difference. None where the means are equal, and as for `difference`.
    """
    first, second = _sample(a, resolution), _sample(b, resolution)
    if first is None or second is None or abs(first.mean - second.mean) < ROUNDING:
        return None
    return seeds_for(first.mean - second.mean, (sqrt(first.variance), sqrt(second.variance)), level, power)


def seeds_for(difference: float, deviations: tuple[float, float], level: float = 0.95, wanted: float = 0.8) -> int:
    """The fewest trainings of either with which `power` is as wanted, for a true difference other than 0.

    The search begins at the normal approximation, which is a few too low; above `MANY` its number is near enough.
    """
    effect = difference**2 / (deviations[0] ** 2 + deviations[1] ** 2)
    n = max(2, ceil(float(special.ndtri((1 + level) / 2) + special.ndtri(wanted)) ** 2 / effect))
    while n < MANY and power(difference, deviations, n, level) < wanted:
        n += 1
    while 2 < n < MANY and power(difference, deviations, n - 1, level) >= wanted:
        n -= 1
    return n


def standard_error(error: float, images: int) -> float:
    """Standard error in points of an error of `error` percent counted on `images` images: sqrt(p (1 - p) / n)."""
    share = error / 100
    return 100 * sqrt(share * (1 - share) / images)


def test_set_error(error: float, images: int) -> float:
    """Standard error in points that an error of `error` percent has because other images could have been drawn.

    Of a mean over seeds it is the most that it can be: less where the seeds fail on different images. None or all of
    the images wrong count as one wrong or right: a standard error of 0 knows nothing of the images not drawn.
    """
    one = 100 / images
    return standard_error(min(max(error, one), 100 - one), images)


def _sample(values: Sequence[float], resolution: float | None) -> _Sample | None:
    if len(values) < 2:
        return None
    mean = fmean(values)
    deviation = max(sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)), (resolution or 0.0) / 2)
    return _Sample(len(values), mean, deviation**2) if deviation > ROUNDING else None


def _welch(a: _Sample, b: _Sample) -> tuple[float, float, float]:
    """Difference of the means, its standard error, and Welch and Satterthwaite's degrees of freedom."""
    of_a, of_b = a.variance / a.size, b.variance / b.size
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (a.size - 1) + of_b**2 / (b.size - 1))
    return a.mean - b.mean, sqrt(of_a + of_b), freedom


def _quantile(level: float, freedom: float) -> float:
    """How far on either side of 0 Student's t reaches at `level`."""
    return float(special.stdtrit(freedom, (1 + level) / 2))
