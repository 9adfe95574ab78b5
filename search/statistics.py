"""What a few trainings say of the error of a configuration, and of the difference of two.

Errors are in percent. Trainings differ by their seeds and are tested on the same images: all but the last function
speak of seeds *on these images*. The images are a sample too, which no number of seeds makes larger: `standard_error`.

The laws are those of scipy.special, where a call costs a hundredth of scipy.stats': a race makes one for each pair of
finalists after each seed.

A tested error is a count of images, so it moves in steps of 100 / images percent, the `resolution` (a balanced error
does on average over the images). With it no deviation is taken below half a step, the largest of two neighbouring
counts; without it, equal errors have no interval.
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

    @property
    def probability_lower(self) -> float:
        """The probability that A's mean error over all seeds is below B's, by these trainings alone.

        The one-sided level at which Welch's interval just leaves out 0. As a probability it supposes that beforehand
        any difference, however large, was as likely as any other (Behrens and Fisher's problem in Welch's
        approximation). Where configurations are alike it says too much, the more so of the best of several.
        """
        return self.p_value / 2 if self.mean > 0 else 1 - self.p_value / 2


@dataclass(frozen=True)
class _Sample:
    size: int
    mean: float
    variance: float  # of a single value


def mean_interval(values: Sequence[float], level: float = 0.95, resolution: float | None = None) -> Interval | None:
    """The interval of the mean: mean -+ t s / sqrt(n) (Student, "The probable error of a mean", Biometrika 1908).

    It is too short for few values of a skewed law. None for fewer than 2 values, and for equal ones without
    `resolution`.
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
    show heads) or more, whatever the law (Thompson, Annals of Mathematical Statistics 1936). Of fewer values than
    `level` needs (6 for 0.95) it is their whole range, with its own level 1 - 2^(1 - n). None for fewer than 2 values.
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
    """The means' difference, its interval within -100 to 100 points, and p (Welch, Biometrika 1947).

    None where a side has fewer than 2 values, or equal ones without `resolution`.
    """
    first, second = _sample(a, resolution), _sample(b, resolution)
    if first is None or second is None:
        return None
    of_a, of_b = first.variance / first.size, second.variance / second.size
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (first.size - 1) + of_b**2 / (second.size - 1))  # and Satterthwaite's
    mean, error = first.mean - second.mean, sqrt(of_a + of_b)
    half = _quantile(level, freedom) * error
    low, high = max(-100.0, mean - half), min(100.0, mean + half)
    return Difference(mean, low, high, 2 * float(special.stdtr(freedom, -abs(mean) / error)))


def power(difference: float, deviations: tuple[float, float], seeds: int, level: float = 0.95) -> float:
    """Probability that a true `difference` is found at `level` with `seeds` trainings of either, 2 or more.

    Exact for normal errors of these standard deviations, in points. Given the share u that A has of both observed
    variances, their sum is still a multiple of chi squared, so t squared is one of the noncentral F, and Welch's
    critical value depends on u alone: what is left is the mean over u, whose law is that of a beta's odds. Student's
    test (Cohen, "Statistical Power Analysis", 1988, ch. 2) has more: its critical value supposes equal deviations.
    """
    of_a, of_b = (deviation**2 for deviation in deviations)
    freedom = seeds - 1
    beta = special.betaincinv(freedom / 2, freedom / 2, QUANTILES)
    u = of_a * beta / (of_a * beta + of_b * (1 - beta))
    critical = special.fdtri(1, freedom / (u**2 + (1 - u) ** 2), level)
    scale = (of_a + of_b) / 2 * (u / of_a + (1 - u) / of_b)
    missed = special.ncfdtr(1, 2 * freedom, seeds * difference**2 / (of_a + of_b), critical / scale)
    return 1 - float(WEIGHTS @ missed)


def power_seen(
    a: Sequence[float], b: Sequence[float], seeds: int, level: float = 0.95, resolution: float | None = None
) -> float:
    """`power` of so many trainings for the difference seen here, were it the true one; 0 as `difference` is None."""
    first, second = _sample(a, resolution), _sample(b, resolution)
    if first is None or second is None:
        return 0.0
    return power(first.mean - second.mean, (sqrt(first.variance), sqrt(second.variance)), seeds, level)


def seeds_needed(
    a: Sequence[float], b: Sequence[float], level: float = 0.95, resolution: float | None = None
) -> int | None:
    """`seeds_for` the difference seen here, were it the true one; None for equal means, and as for `difference`.

    Difference and deviations are put in as seen, and of few trainings both are rough: where 9 of either are needed, it
    says 5 or fewer after one in four experiments of 3 each, and 18 or more after another. It names a number also where
    there is no difference.
    """
    first, second = _sample(a, resolution), _sample(b, resolution)
    if first is None or second is None or abs(first.mean - second.mean) < ROUNDING:
        return None
    return seeds_for(first.mean - second.mean, (sqrt(first.variance), sqrt(second.variance)), level)


def seeds_for(difference: float, deviations: tuple[float, float], level: float = 0.95, wanted: float = 0.8) -> int:
    """The fewest trainings of either with which a true difference other than 0 has `power` as wanted.

    The search begins at the normal approximation, which is a few too low; above `MANY` its number is near enough.
    """
    effect = difference**2 / (deviations[0] ** 2 + deviations[1] ** 2)
    n = max(2, ceil(float(special.ndtri((1 + level) / 2) + special.ndtri(wanted)) ** 2 / effect))
    while n < MANY and power(difference, deviations, n, level) < wanted:
        n += 1
    while 2 < n < MANY and power(difference, deviations, n - 1, level) >= wanted:
        n -= 1
    return n


def standard_error(error: float, images: float) -> float:
    """Standard error in points of an error of `error` percent, since other images could have been drawn: sqrt(pq / n).

    Of a mean over seeds it is the most that it can be: less where the seeds fail on different images. None or all of
    the images wrong count as one wrong or right: a standard error of 0 knows nothing of the images not drawn.
    """
    share = _inner(error / 100, images)
    return 100 * sqrt(share * (1 - share) / images)


def _inner(share: float, images: float) -> float:
    """The share, but that none or all of the images count as one or all but one, and of a single image a half."""
    least = min(1 / images, 0.5)
    return min(max(share, least), 1 - least)


def balanced_standard_error(wrong: Sequence[int], images: Sequence[int]) -> float:
    """As `standard_error`, of the mean of the classes' errors, of which each has so many wrong of its images.

    As many images of each class are drawn again, so that it is what a stratified bootstrap gives: the classes are
    independent, and the variance of their mean is the sum of their variances over the number of classes squared.
    """
    known = [standard_error(100 * w / n, n) for w, n in zip(wrong, images, strict=True) if n]
    return sqrt(sum(error**2 for error in known)) / len(known)


def balanced_interval(wrong: Sequence[int], images: Sequence[int], level: float = LEVEL) -> Interval:
    """Where the mean of the classes' errors, in percent, lies for other images, as many of each class.

    `share_interval` of so many images as have the standard error of `balanced_standard_error` (Kish's effective sample
    size, in Wilson's interval: Dean and Pagano, Journal of Survey Statistics and Methodology 2015). Of many images it
    is what a stratified bootstrap gives; of few a bootstrap's is too short.
    """
    known = [(w, n) for w, n in zip(wrong, images, strict=True) if n]
    near = fmean(_inner(w / n, n) for w, n in known)
    effective = near * (1 - near) / (balanced_standard_error(wrong, images) / 100) ** 2
    return share_interval(fmean(w / n for w, n in known) * effective, effective, level)


def effective_images(images: Sequence[int]) -> float:
    """So many images of one law are as sure of an error as these, by class, are of the mean of the classes' errors.

    The classes times the harmonic mean of their images: where all have the error p, the variance of the mean is
    p (1 - p) sum(1 / n_c) / classes^2. As many as there are where all classes have as many.
    """
    known = [n for n in images if n]
    return len(known) ** 2 / sum(1 / n for n in known)


def balanced_guess(images: Sequence[int]) -> float:
    """Mean of the classes' errors, of which each has so many images, of who always names the same class, in percent."""
    return 100 * (1 - 1 / sum(n > 0 for n in images))


def share_interval(count: float, images: float, level: float = LEVEL) -> Interval:
    """Where the share of so many images, in percent, lies (Wilson, JASA 1927)."""
    z, share = float(special.ndtri((1 + level) / 2)), count / images
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return Interval(100 * max(0.0, middle - half), 100 * min(1.0, middle + half), level)


def beats_guessing(error: float, guess: float | None, images: float) -> bool:
    """Whether `error` is below that of who always names the largest class, by more than two standard errors.

    True where the latter is not known.
    """
    return guess is None or error < guess - 2 * standard_error(guess, images)


def _sample(values: Sequence[float], resolution: float | None) -> _Sample | None:
    if len(values) < 2:
        return None
    mean = fmean(values)
    deviation = max(sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)), (resolution or 0.0) / 2)
    return _Sample(len(values), mean, deviation**2) if deviation > ROUNDING else None


def _quantile(level: float, freedom: float) -> float:
    """How far on either side of 0 Student's t reaches at `level`."""
    return float(special.stdtrit(freedom, (1 + level) / 2))
