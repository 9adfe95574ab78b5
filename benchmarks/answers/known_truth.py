"""Trainings simulated from known truth, and how often what is said of them is so: the tables of `answers`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.trial.same_statistics import power as students_power
from search import statistics
from search.statistics import Interval, difference, mean_interval, median_interval, seeds_needed

Sample = NDArray[np.float64]
SIZES = (2, 3, 4, 5, 7, 10)
DEVIATION = 0.16  # points, of a training of ResNet-110 (arXiv:1512.03385, table 6)
ERROR = 6.5  # percent
FEW = 100 / 360  # percent: one image of a small test set


@dataclass(frozen=True)
class Law:
    """What trainings of one configuration would give."""

    draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]
    mean: float
    median: float
    resolution: float | None = None


LAWS = {
    "normal": Law(lambda rng, shape: rng.normal(ERROR, DEVIATION, shape), ERROR, ERROR),
    "k of 10,000 images": Law(
        lambda rng, shape: np.rint(rng.normal(100 * ERROR, 100 * DEVIATION, shape)) / 100, ERROR, ERROR, 0.01
    ),
    "skewed (exponential)": Law(
        lambda rng, shape: ERROR + DEVIATION * rng.exponential(size=shape),
        ERROR + DEVIATION,
        ERROR + DEVIATION * log(2),
    ),
    "one training in ten a point worse": Law(
        lambda rng, shape: rng.normal(ERROR, DEVIATION, shape) + (rng.random(shape) < 0.1),
        ERROR + 0.1,
        ERROR + DEVIATION * float(stats.norm.ppf(0.5 / 0.9)),  # the worse tenth is beyond the median
    ),
    "k of 360, deviation of half an image": Law(
        lambda rng, shape: np.rint(rng.normal(9, 0.5, shape)) * FEW, 9 * FEW, 9 * FEW, FEW
    ),
    "k of 360, one training in ten errs once more": Law(
        lambda rng, shape: (9 + (rng.random(shape) < 0.1)) * FEW, 9.1 * FEW, 9 * FEW, FEW
    ),
}


def share(cases: Sequence[bool] | NDArray[np.bool_], least: float = 0.0, most: float = 1.0) -> str:
    """Percent of the cases, bold where it is below `least` or above `most` by more than three standard errors."""
    found, n = float(np.mean(cases)), len(cases)
    low, high = (3 * sqrt(bound * (1 - bound) / n) for bound in (least, most))
    text = f"{100 * found:.1f}"
    return f"**{text}**" if found < least - low or found > most + high else text


def held(intervals: Sequence[Interval | None], truth: float) -> list[bool]:
    """Of each, whether it holds the truth; one that there is not holds nothing."""
    return [i is not None and i.low - 1e-9 <= truth <= i.high + 1e-9 for i in intervals]


def means(rng: np.random.Generator, repetitions: int) -> list[list[str]]:
    """How often 95 % intervals of the mean hold it, by law and number of trainings."""
    rows: list[list[str]] = []
    for name, law in LAWS.items():
        samples = [law.draw(rng, (repetitions, n)).tolist() for n in SIZES]
        ways = {name: law.resolution} if law.resolution != FEW else {f"{name}; without it": None, name: FEW}
        for way, resolution in ways.items():
            found = ([mean_interval(s, 0.95, resolution) for s in of_size] for of_size in samples)
            rows.append([way, *(share(held(f, law.mean), least=0.95) for f in found)])
    return rows


def medians(rng: np.random.Generator, repetitions: int) -> list[list[str]]:
    """How often intervals of the median hold it, beside the level that they claim, and a bootstrap that claims 95 %."""
    claimed = [median_interval(list(range(n))) for n in SIZES]
    levels = [i.level for i in claimed if i]
    rows = [["claimed", *(f"{100 * level:.1f}" for level in levels)]]
    for name, law in LAWS.items():
        found = ([median_interval(s) for s in law.draw(rng, (repetitions, n)).tolist()] for n in SIZES)
        shares = (share(held(f, law.median), least=level) for f, level in zip(found, levels, strict=True))
        rows.append([name, *shares])
    return [*rows, ["percentile bootstrap, normal", *(bootstrap(rng, n, repetitions // 5) for n in SIZES)]]


def bootstrap(rng: np.random.Generator, n: int, repetitions: int, resamples: int = 1_000) -> str:
    """How often the percentile bootstrap's 95 % interval of the median holds it."""
    inside: list[bool] = []
    for sample in rng.normal(size=(repetitions, n)):
        drawn = np.median(sample[rng.integers(n, size=(resamples, n))], axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        inside.append(bool(low <= 0 <= high))
    return share(inside, least=0.95)


def false_differences(rng: np.random.Generator, repetitions: int) -> list[list[str]]:
    """How often p is 5 % or less where both means are equal."""

    def row(name: str, draw: Callable[[int], tuple[Sample, Sample]], resolution: float | None = None) -> list[str]:
        cells: list[str] = []
        for n in SIZES:
            pairs = zip(*(side.tolist() for side in draw(n)), strict=True)
            found = [difference(a, b, 0.95, resolution) for a, b in pairs]
            cells.append(share([f is not None and f.p_value <= 0.05 for f in found], most=0.05))
        return [name, *cells]

    def normal(n: int, ratio: float) -> tuple[Sample, Sample]:
        first, second = rng.normal(size=(2, repetitions, n))
        return first, ratio * second

    def alike(law: Law, n: int) -> tuple[Sample, Sample]:
        return law.draw(rng, (repetitions, n)), law.draw(rng, (repetitions, n))

    unequal = [row(f"normal, deviations 1 : {ratio}", lambda n, r=ratio: normal(n, r)) for ratio in (1, 2, 4, 10)]
    others = [row(name, lambda n, law=law: alike(law, n), law.resolution) for name, law in LAWS.items()]
    return [*unequal, *others[1:]]


def powers(rng: np.random.Generator, repetitions: int) -> list[list[str]]:
    """How often a difference is found: Student's formula, ours, and of simulated trainings."""
    rows: list[list[str]] = []
    for shift, n in ((0.24, 3), (0.24, 5), (0.24, 7), (0.24, 8), (0.24, 9), (0.5, 2), (0.5, 3), (0.5, 4)):
        a, b = (DEVIATION * rng.normal(size=(2, repetitions, n))).tolist()
        found = [difference([x + shift for x in one], two) for one, two in zip(a, b, strict=True)]
        student = students_power(shift / DEVIATION, n, n)
        ours = statistics.power(shift, (DEVIATION, DEVIATION), n)
        formulas = [f"{100 * p:.1f}" for p in (student, ours)]
        rows.append([f"{shift:g}", str(n), *formulas, share([f is not None and f.p_value <= 0.05 for f in found])])
    return rows


def probabilities(rng: np.random.Generator, repetitions: int) -> list[list[str]]:
    """Of what is said with 80 to 90, 90 to 95, 95 to 99 % and more: how often it is so."""
    rows: list[list[str]] = []
    for width, finalists, n in ((10, 2, 3), (3, 2, 3), (1, 2, 3), (0.5, 2, 3), (1, 2, 5), (1, 3, 3), (0.5, 3, 3)):
        truths = width * rng.normal(size=(repetitions, finalists))
        errors = truths[:, :, None] + rng.normal(size=(repetitions, finalists, n))
        order = np.argsort(errors.mean(axis=2), axis=1)[:, :2]
        both = np.take_along_axis(errors, order[:, :, None], axis=1).tolist()
        said = np.array([one.probability_lower for first, second in both if (one := difference(first, second))])
        right = np.diff(np.take_along_axis(truths, order, axis=1))[:, 0] > 0
        cells: list[str] = []
        for low, high in ((0.8, 0.9), (0.9, 0.95), (0.95, 0.99), (0.99, 1.01)):
            chosen = (low <= said) & (said < high)
            cells.append(f"{100 * said[chosen].mean():.1f}: {share(right[chosen], least=float(said[chosen].mean()))}")
        rows.append([f"{width:g}", str(finalists), str(n), *cells])
    return rows


def advice(rng: np.random.Generator, repetitions: int) -> list[list[str]]:
    """What `seeds_needed` says of few trainings, and of those that tell nothing apart; how often that is enough."""
    rows: list[list[str]] = []
    for shift, n in ((0.24, 3), (0.24, 5), (0.24, 9), (0.5, 3), (0.08, 3), (0.0, 3)):
        both = DEVIATION * rng.normal(size=(repetitions, 2, n)) + np.array([[shift], [0.0]])
        open_ = [pair for pair in both.tolist() if not _apart(*pair)]
        needed = f"{statistics.seeds_for(shift, (DEVIATION, DEVIATION)):,}" if shift else "no number"
        for name, pairs in (("all", both.tolist()), ("not told apart", open_)):
            said = [seeds for pair in pairs if (seeds := seeds_needed(*pair)) is not None]
            spread = [f"{q:,.0f}" for q in np.quantile(said, [0.05, 0.25, 0.5, 0.75, 0.95])]
            bought = np.array([statistics.power(shift, (DEVIATION, DEVIATION), seeds) for seeds in said[:2_000]])
            enough = share(bought >= 0.8) if shift else ""
            rows.append([f"{shift:g}", needed, str(n), f"{name} ({len(pairs):,})", *spread, enough])
    return rows


def _apart(a: Sequence[float], b: Sequence[float]) -> bool:
    found = difference(a, b)
    return found is not None and found.p_value <= 0.05
