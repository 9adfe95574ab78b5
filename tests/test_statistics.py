"""Intervals, tests and advice against scipy.stats, printed tables, sums over all cases, and simulated trainings."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from search import statistics
from search.statistics import (
    Difference,
    Interval,
    balanced_guess,
    balanced_interval,
    balanced_standard_error,
    effective_images,
    mean_interval,
    median_interval,
    seeds_for,
    seeds_needed,
    share_interval,
    standard_error,
)

A, B = [6.61, 6.44, 6.83], [6.37, 6.40, 6.21, 6.52, 6.29]
APART = ([6.37 - 0.16, 6.37, 6.37 + 0.16], [6.61 - 0.16, 6.61, 6.61 + 0.16])  # 0.24 points, deviations of 0.16


def within(found: float, expected: float, n: int) -> bool:
    """Whether a share of n cases is what is expected, but for what happens once in 10,000 times."""
    return abs(found - expected) <= 3.9 * math.sqrt(expected * (1 - expected) / n)


def scipys_welch(a: object, b: object, **options: object) -> Any:
    return stats.ttest_ind(a, b, equal_var=False, **options)  # pyright: ignore


def difference(a: Sequence[float], b: Sequence[float], **options: Any) -> Difference:
    found = statistics.difference(a, b, **options)
    assert found is not None
    return found


def test_the_means_interval_is_students() -> None:
    low, high = stats.ttest_1samp(A, 0).confidence_interval(0.95)
    assert mean_interval(A) == Interval(pytest.approx(low), pytest.approx(high), 0.95)
    # Student's table: 4.303 for 2 degrees of freedom; 1.960 would be the normal's
    half = 4.303 / math.sqrt(3)
    assert mean_interval([0, 1, 2]) == Interval(*(pytest.approx(1 + side * half, rel=1e-3) for side in (-1, 1)), 0.95)
    assert mean_interval([6.5]) is mean_interval([]) is None


@pytest.mark.parametrize(
    ("errors", "ends"),
    [((0, 10), (0, 5 + 12.706 * 5)), ((90, 100), (95 - 12.706 * 5, 100)), ((0, 100), (0, 100)), ((5,), None)],
)
def test_an_interval_of_errors_ends_at_0_and_at_100_percent(errors: Sequence[float], ends: Any) -> None:
    """Student's 97.5 % quantile of one degree of freedom is 12.706; half the range of two values is s / sqrt(2)."""
    expected = ends and Interval(pytest.approx(ends[0], rel=1e-4), pytest.approx(ends[1], rel=1e-4), 0.95)
    assert statistics.mean_error_interval(errors, 0.95) == expected


def test_an_interval_of_a_difference_ends_at_100_points() -> None:
    high, low = [90.0, 100.0, 95.0], [0.0, 20.0, 1.0]
    above, below = difference(high, low), difference(low, high)
    assert above.high == 100
    assert 50 < above.low < above.mean == pytest.approx(88)
    assert (below.low, below.high) == (-100, pytest.approx(-above.low))


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_means_interval_holds_the_mean_as_often_as_it_says(n: int, level: float) -> None:
    rows = np.random.default_rng(0).normal(size=(2_000, n))
    found = [mean_interval(list(row), level) for row in rows]
    assert within(float(np.mean([i is not None and i.low <= 0 <= i.high for i in found])), level, 2_000)


def neighbours(n: int, share: float, resolution: float | None) -> float:
    """How often the interval holds the mean of a law that is 1 image wrong with probability `share`, else none."""
    held = 0.0
    for ones in range(n + 1):
        found = mean_interval([1.0] * ones + [0.0] * (n - ones), 0.95, resolution)
        held += float(stats.binom.pmf(ones, n, share)) * (found is not None and found.low <= share <= found.high)
    return held


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_of_two_neighbouring_counts_the_interval_holds_the_mean(n: int) -> None:
    shares = np.linspace(0.01, 0.99, 99)
    assert min(neighbours(n, share, 1.0) for share in shares) >= 0.95
    assert min(neighbours(n, share, None) for share in shares) < 0.25, "what Student's alone would hold"


def test_equal_errors_are_known_no_better_than_images_tell() -> None:
    assert mean_interval([2.5, 2.5, 2.5]) is None
    half = 4.302653 * (100 / 360 / 2) / math.sqrt(3)
    ends = pytest.approx(2.5 - half, rel=1e-6), pytest.approx(2.5 + half, rel=1e-6)
    assert mean_interval([2.5, 2.5, 2.5], resolution=100 / 360) == Interval(*ends, 0.95)
    assert mean_interval(A, resolution=0.01) == mean_interval(A), "a spread above the resolution is as it is"


MEDIANS = {6: (1, 0.969), 7: (1, 0.984), 8: (1, 0.992), 9: (2, 0.961), 10: (2, 0.979), 11: (2, 0.988)}  # as printed
RANGES = {2: (1, 0.5), 3: (1, 0.75), 4: (1, 0.875), 5: (1, 0.9375)}  # of too few values: with the level that they have


def test_the_medians_interval_is_that_of_tables_of_the_sign_test() -> None:
    for n, (rank, level) in (MEDIANS | RANGES).items():
        expected = Interval(rank, n + 1 - rank, pytest.approx(level, abs=5e-4))
        assert median_interval(list(range(n, 0, -1))) == expected
    assert median_interval([1.0]) is None


@pytest.mark.parametrize("n", [3, 7, 10])
def test_the_medians_interval_holds_the_median_of_a_skewed_law(n: int) -> None:
    rows = np.random.default_rng(n).exponential(size=(2_000, n))
    found = [interval for row in rows if (interval := median_interval(list(row)))]
    held = np.mean([interval.low <= math.log(2) <= interval.high for interval in found])
    assert within(float(held), found[0].level, 2_000)


def test_the_difference_is_welchs() -> None:
    known = scipys_welch(A, B)
    ends = map(pytest.approx, (np.mean(A) - np.mean(B), *known.confidence_interval(0.9), known.pvalue))
    assert difference(A, B, level=0.9) == Difference(*ends)
    student: Any = stats.ttest_ind(A, B)
    assert abs(student.pvalue - known.pvalue) > 0.02, "the data part the two tests"
    assert statistics.difference(A, [6.0]) is statistics.difference([6.0, 6.0], A) is None
    floored = difference([6.0, 6.0, 6.0], [7.0, 7.0, 7.0], resolution=1.0)
    # by hand: standard error sqrt(2 * 0.25 / 3), 4 degrees of freedom
    assert floored.p_value == pytest.approx(2 * stats.t.sf(1 / math.sqrt(0.5 / 3), 4))


def test_the_probability_of_a_lower_mean_is_the_one_sided_level() -> None:
    greater = scipys_welch(B, A, alternative="greater").pvalue
    assert difference(B, A).probability_lower == pytest.approx(greater)
    assert greater > 0.9
    assert difference(A, B).probability_lower == pytest.approx(1 - greater)
    assert difference([1.0, 2.0], [2.0, 1.0]).probability_lower == pytest.approx(0.5)


def test_the_probability_is_right_as_often_as_it_says_where_any_difference_is_likely() -> None:
    """Any difference up to 8 deviations, beyond which nothing is in doubt; said between 80 and 95 %."""
    rng, said, right = np.random.default_rng(1), [], []
    for true in rng.uniform(-8, 8, size=10_000):
        found = difference(list(rng.normal(size=5)), list(rng.normal(size=5) + true)).probability_lower
        if 0.8 <= max(found, 1 - found) <= 0.95:
            said.append(max(found, 1 - found))
            right.append((found > 0.5) == (true > 0))
    assert len(said) > 500
    assert abs(np.mean(right) - np.mean(said)) < 3.9 * math.sqrt(0.13 * 0.87 / len(said))


@pytest.mark.parametrize(
    ("shift", "deviations", "n", "level"),
    [(2.0, (1.0, 1.0), 3, 0.95), (2.0, (1.0, 3.0), 3, 0.95), (0.24, (0.16, 0.16), 8, 0.95), (3.0, (1.0, 1.0), 4, 0.99)],
)
def test_the_power_is_what_scipys_welch_has(
    shift: float, deviations: tuple[float, float], n: int, level: float
) -> None:
    one, two = np.random.default_rng(0).normal(size=(2, 40_000, n))
    p: NDArray[np.float64] = scipys_welch(one * deviations[0] + shift, two * deviations[1], axis=1).pvalue
    assert within(float(np.mean(p <= 1 - level)), statistics.power(shift, deviations, n, level), 40_000)


def test_no_difference_is_found_less_often_than_the_level_by_few_trainings() -> None:
    assert statistics.power(0.0, (1.0, 1.0), 3) == pytest.approx(0.0353, abs=5e-4)  # simulated: 0.705 * 0.05
    assert statistics.power(0.0, (1.0, 1.0), 1_000) == pytest.approx(0.05, abs=1e-4)


def test_the_seeds_needed_are_cohens() -> None:
    """Cohen, "A power primer", Psychological Bulletin 1992, table 2: 26 and 64 of either for 0.8 and 0.5 deviations."""
    assert [seeds_for(d, (1.0, 1.0)) for d in (0.8, 0.5, -0.5, 20.0)] == [26, 64, 64, 2]
    assert seeds_for(0.001, (1.0, 1.0)) == pytest.approx(2 * (1.959964 + 0.841621) ** 2 * 1_000_000)
    assert statistics.power(0.24, (0.16, 0.16), 8) < 0.8 <= statistics.power(0.24, (0.16, 0.16), 9)
    above = seeds_for(1.0, (1.0, 4.0), level=0.5, wanted=0.95)  # where the normal approximation asks for too many
    assert above < math.ceil(17 * (stats.norm.isf(0.25) + stats.norm.isf(0.05)) ** 2)
    assert statistics.power(1.0, (1.0, 4.0), above, 0.5) >= 0.95 > statistics.power(1.0, (1.0, 4.0), above - 1, 0.5)


def test_the_normal_approximation_asks_for_too_few() -> None:
    normal = 2 * ((stats.norm.isf(0.025) + stats.norm.isf(0.2)) * 0.16 / 0.24) ** 2
    assert math.ceil(normal) == 7
    assert seeds_needed(*APART) == 9
    assert (seeds_needed(*APART, level=0.99) or 0) > 9
    assert seeds_needed(*APART, resolution=0.64) == seeds_for(0.24, (0.32, 0.32))


@pytest.mark.parametrize(
    ("a", "b"), [([6.1], [6.2, 6.3]), ([6.1, 6.3], [6.15, 6.25]), ([6.1, 6.1], [6.2, 6.3]), ([], [])]
)
def test_no_difference_and_no_spread_need_no_number_of_seeds(a: Sequence[float], b: Sequence[float]) -> None:
    assert seeds_needed(a, b) is None


@pytest.mark.parametrize(
    ("error", "images", "points"),
    [
        (10.0, 100, 3.0),  # sqrt(0.1 * 0.9 / 100)
        (100 * 4 / 287, 287, 0.6920),  # 4 of 287 images
        (6.37, 10_000, 0.2442),  # of a published error of 6.37 % on CIFAR-10's test images
        (0.0, 360, 0.2774),  # none counts as one
        (100.0, 360, 0.2774),  # and all as all but one: nothing measured is certain
    ],
)
def test_the_standard_error_of_images_is_binomial(error: float, images: int, points: float) -> None:
    assert statistics.standard_error(error, images) == pytest.approx(points, abs=5e-5)


@pytest.mark.parametrize(("count", "images"), [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (17, 1000)])
def test_share_interval_is_scipys(count: int, images: int) -> None:
    found = share_interval(count, images)
    expected = stats.binomtest(count, images).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("wrong", "images"),
    [((9, 6, 30), (300, 30, 60)), ((1, 4), (10, 100)), ((50, 0, 3), (100, 0, 7)), ((400, 33), (800, 90))],
)
def test_standard_error_of_a_balanced_error_is_that_of_a_stratified_bootstrap(
    wrong: tuple[int, ...], images: tuple[int, ...]
) -> None:
    """2,000 draws of as many images of each class: their deviation is known to 1 / sqrt(4,000), 1.6 %."""
    rng, means = np.random.default_rng(0), np.zeros(2000)
    known = [(w, n) for w, n in zip(wrong, images, strict=True) if n]
    for w, n in known:
        lost = np.arange(n) < w
        means += 100 * rng.choice(lost, (2000, n)).mean(1) / len(known)
    error = balanced_standard_error(wrong, images)
    assert error == pytest.approx(means.std(), rel=0.06)
    if min(n for _, n in known) >= 30:
        found, drawn = balanced_interval(wrong, images), np.percentile(means, [2.5, 97.5])
        assert (found.low, found.high) == pytest.approx(tuple(drawn), abs=0.35 * error)


@pytest.mark.parametrize("wrong", [0, 3, 20])
def test_balanced_interval_of_one_class_is_wilsons(wrong: int) -> None:
    expected = stats.binomtest(wrong, 20).proportion_ci(method="wilson")
    found = balanced_interval((wrong, 0), (20, 0))
    assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("shares", "images"),
    [((0.1, 0.04), (10, 100)), ((0.02, 0.3, 0.5), (200, 20, 5)), ((0.05,) * 10, (8,) * 10), ((0.01, 0.3), (1000, 20))],
)
def test_balanced_intervals_hold_what_they_say(shares: tuple[float, ...], images: tuple[int, ...]) -> None:
    """The true error, in 93 of 100 samples or more, though images are few: a bootstrap's does in 66 of the first."""
    rng, truth = np.random.default_rng(0), 100 * fmean(shares)
    found = [balanced_interval(drawn, images) for drawn in rng.binomial(images, shares, (1000, len(images))).tolist()]
    held = fmean(one.low <= truth <= one.high for one in found)
    assert held > 0.93 - 3.9 * math.sqrt(0.93 * 0.07 / 1000)


def test_effective_images() -> None:
    """As many as there are where classes are alike; at 100 to 10 images of two classes 4 / (1/100 + 1/10)."""
    assert effective_images((7, 7, 7)) == pytest.approx(21)
    assert effective_images((100, 10)) == pytest.approx(4 / 0.11)
    assert effective_images((100, 0, 10)) == pytest.approx(4 / 0.11)
    assert balanced_guess((100, 10, 0)) == 50
    same = balanced_standard_error((20, 2), (100, 10)), standard_error(20, effective_images((100, 10)))
    assert same[0] == pytest.approx(same[1])


def test_a_class_without_a_wrong_image_still_has_a_standard_error() -> None:
    """One wrong of each is supposed, and of a single image a half."""
    assert balanced_standard_error((0, 0), (10, 10)) == balanced_standard_error((1, 1), (10, 10))
    assert balanced_standard_error((0,), (1,)) == pytest.approx(50)
    assert balanced_interval((0, 0), (10, 10)).low == 0
