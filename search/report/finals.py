"""What follows from the finals of a study: order, means with intervals, and who can be told from the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, median, stdev

from scipy import integrate
from scipy.stats import norm

from search import formatting, optimize
from search.records import Finalist, Finals, SeedRun, TrialState
from search.report import wording
from search.statistics import Difference, Interval, difference, seeds_needed, share_interval
from search.training import Predictions

LOST = (TrialState.FAILED, TrialState.DIVERGED, TrialState.INFEASIBLE)


@dataclass(frozen=True)
class Standing:
    """One finalist and its test errors, in percent; figures that too few trainings give are None."""

    finalist: Finalist
    rank: int | None  # None where none of its trainings was tested
    mean: float | None
    deviation: float | None  # of single trainings, in points
    interval: Interval | None  # of the mean over seeds, on these test images
    median: float | None
    against: Difference | None  # its mean less the champion's; None for the champion itself

    @property
    def errors(self) -> tuple[float, ...]:
        """Test errors by seed."""
        return self.finalist.tested

    @property
    def lower(self) -> float | None:
        """Probability that its mean is below the champion's."""
        return None if self.against is None else self.against.probability_lower

    @property
    def lost(self) -> tuple[SeedRun, ...]:
        """Trainings that failed, diverged or did not fit."""
        return tuple(run for run in self.finalist.runs if run.state in LOST)

    @property
    def seconds(self) -> float:
        """Of all trainings."""
        return sum(run.seconds or 0.0 for run in self.finalist.runs)

    @property
    def error(self) -> str:
        """`1.39 ± 0.31 %`: mean and standard deviation."""
        spread = "" if self.deviation is None else f" ± {self.deviation:.2f}"
        return formatting.ABSENT if self.mean is None else f"{self.mean:.2f}{spread} %"

    @property
    def between(self) -> str:
        """`1.01 to 1.77`: the interval."""
        return formatting.ABSENT if self.interval is None else f"{self.interval.low:.2f} to {self.interval.high:.2f}"


def standings(finals: Finals) -> tuple[Standing, ...]:
    """The finalists: the champion, then by mean test error those that lost no training, those that did, the rest.

    Ranks are by mean test error, so that the champion's need not be 1.
    """

    def place(finalist: Finalist) -> tuple[bool, bool, float, int]:
        lost = any(run.state in LOST for run in finalist.runs)
        return not finalist.tested, lost, finalist.mean or 0.0, finalist.number

    order = [_standing(finals, one, rank) for rank, one in enumerate(sorted(finals.finalists, key=place), start=1)]
    return tuple(sorted(order, key=lambda standing: standing.finalist is not finals.champion))


def _standing(finals: Finals, finalist: Finalist, rank: int) -> Standing:
    errors = finalist.tested
    other = finals.champion.tested if finals.champion is not None and finalist is not finals.champion else ()
    return Standing(
        finalist,
        rank if errors else None,
        finalist.mean,
        stdev(errors) if len(errors) > 1 else None,
        finals.interval(finalist),
        median(errors) if errors else None,
        difference(errors, other, finals.level, 100 / finals.tested_on),
    )


@dataclass(frozen=True)
class Verdict:
    """How the champion, the cheapest of those that cannot be told apart, stands to the others that lost no training."""

    next: Standing | None  # the lowest mean of the others; None where there is none to compare with
    close: tuple[Standing, ...]  # those that the race has not told from it, nearest first
    probability: float | None  # that the champion's mean is below that of `next`
    needed: int | None  # seeds of either to tell it from the nearest of `close`, were the difference seen the true one


def verdict(order: Sequence[Standing], finals: Finals) -> Verdict:
    """Of finals whose champion stands first: what `search.optimize.race` has told apart."""
    first, *rest = order
    others = [s for s in rest if s.errors and not s.lost]
    if not others:
        return Verdict(None, (), None, None)
    raced = optimize.verdict(finals)
    near = {raced.best, *raced.rivals}
    close = tuple(s for s in others if s.finalist.number in near or raced.best is None)
    lower = None if others[0].lower is None else 1 - others[0].lower
    needed = raced.advised
    if close and {first.finalist.number, close[0].finalist.number} != {raced.best, *raced.rivals[:1]}:
        needed = seeds_needed(first.errors, close[0].errors, finals.level, resolution=100 / finals.tested_on)
    return Verdict(others[0], close, lower, needed if close else None)


def name(finals: Finals, finalist: Finalist) -> str:
    """`20-layer v2 identity, width 32 (trial 7)`, or what the study calls it."""
    if finalist.label is not None:
        return finalist.label
    if finals.compared:
        return f"row {finalist.number + 1}"
    paths = [path for path in wording.finals_columns(finals) if path.startswith("net.")]
    return f"{formatting.configuration(finalist.params, paths)} (trial {finalist.number})"


@dataclass(frozen=True)
class OfClass:
    """The test images of one class, and what a network takes them for."""

    name: str
    given: dict[str, int]  # class -> images that are taken for it, most first; only those that there are

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(self.given.values())

    @property
    def wrong(self) -> int:
        """How many are taken for another class."""
        return self.images - self.given.get(self.name, 0)

    @property
    def error(self) -> float | None:
        """In percent; None without images."""
        return 100 * self.wrong / self.images if self.images else None

    @property
    def interval(self) -> Interval | None:
        """Where the error on all images of the class lies."""
        return share_interval(self.wrong, self.images) if self.images else None

    @property
    def taken_for(self) -> tuple[str, int] | None:
        """The other class that most of them are taken for, and how many; None where none is wrong."""
        return next(((name, images) for name, images in self.given.items() if name != self.name), None)


@dataclass(frozen=True)
class Mistake:
    """A test image that a network takes for another class."""

    image: int  # among the test images, from 0
    name: str  # its file below the folder of images; empty for other data
    label: str
    given: str
    probability: float  # of the given class


def mistakes(predictions: Predictions, names: Sequence[str]) -> tuple[Mistake, ...]:
    """Those of the highest probability, that first; `names` of the classes."""
    label, given = predictions.labels, predictions.given
    return tuple(
        Mistake(k, str(file), names[int(label[k])], names[int(given[k])], float(predictions.probability[k]))
        for k, file in zip(predictions.shown.tolist(), predictions.names, strict=True)
    )


def by_class(predictions: Predictions, names: Sequence[str]) -> tuple[OfClass, ...]:
    """Of each class in the order of their names."""
    found: list[OfClass] = []
    for name, row in zip(names, predictions.confusion(len(names)).tolist(), strict=True):
        given = sorted(zip(names, row, strict=True), key=lambda pair: -pair[1])
        found.append(OfClass(name, {other: images for other, images in given if images}))
    return tuple(found)


def flattery(order: Sequence[Standing]) -> float | None:
    """Points by which the lowest mean of so many finalists lies below its own expectation, were all of them alike.

    The expected lowest of k normal means: the expected largest of k standard normal values times the standard error
    of a mean. None for fewer than two finalists with a deviation.
    """
    known = [s.deviation**2 / len(s.errors) for s in order if s.deviation is not None and not s.lost]
    return largest_of(len(known)) * sqrt(fmean(known)) if len(known) > 1 else None


def largest_of(k: int) -> float:
    """Expected largest of k independent standard normal values."""
    return float(integrate.quad(lambda x: k * x * norm.pdf(x) * norm.cdf(x) ** (k - 1), -12, 12)[0])
