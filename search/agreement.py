"""What our trainings say of what a paper prints: of its figures, and of the order in which it puts configurations."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from statistics import fmean, median
from typing import Any

from search.published import Figure, differences, figure
from search.records import WORST, Finalist, Finals, StudySummary, TrialState
from search.statistics import Difference, Interval, difference, mean_error_interval, mean_interval


class Agrees(StrEnum):
    """Whether what is published is found here too."""

    YES = "yes"
    NO = "no"
    NOT_SHOWN = "not shown"  # the trainings do not say


@dataclass(frozen=True)
class Order:
    """A configuration beside the one that it is compared with."""

    against: str
    published: str | None  # worse, better; None where nothing is printed of it
    by: float | None  # points that are printed; None where the paper prints no two numbers
    measure: str  # test error or training error
    found: Difference | None  # ours; None where there are too few trainings

    @property
    def ours(self) -> str | None:
        """`worse`, `better`, or None where the two cannot be told apart."""
        if self.found is None or self.found.low <= 0 <= self.found.high:
            return None
        return "worse" if self.found.mean > 0 else "better"

    @property
    def agrees(self) -> Agrees | None:
        """None where nothing is printed."""
        if self.published is None:
            return None
        if self.ours is None:
            return Agrees.NOT_SHOWN
        return Agrees.YES if self.ours == self.published else Agrees.NO


@dataclass(frozen=True)
class Row:
    """A finalist beside its published figures. Errors in percent; a training that diverged counts as `WORST`."""

    finalist: Finalist
    label: str
    figures: tuple[Figure, ...]
    differences: dict[str, tuple[Any, Any]]  # from the recipe of its first figure: path -> (in the paper, here)
    errors: tuple[float, ...]  # of the test, by seed
    diverged: int  # of `errors`
    interval: Interval | None  # of the mean
    order: Order | None  # None for the one that others are compared with
    figure_agrees: Agrees | None  # None at a smaller scale, and where no figure is printed

    @property
    def median(self) -> float | None:
        return median(self.errors) if self.errors else None

    @property
    def mean(self) -> float | None:
        return fmean(self.errors) if self.errors else None

    @property
    def std(self) -> float | None:
        """Of single trainings; None for fewer than 2."""
        mean = self.mean
        if mean is None or len(self.errors) < 2:
            return None
        return sqrt(sum((error - mean) ** 2 for error in self.errors) / (len(self.errors) - 1))


def rows(summary: StudySummary) -> tuple[Row, ...]:
    """The finalists of a study beside what is published, in its order; empty without finals."""
    finals = summary.finals
    if finals is None:
        return ()
    by_label = {label_of(one): one for one in finals.finalists}
    return tuple(_row(summary, finals, one, by_label) for one in finals.finalists)


def label_of(finalist: Finalist) -> str:
    """What the study calls it, or the trial's number."""
    return finalist.label or f"trial {finalist.number}"


def at_full_scale(found: Sequence[Row]) -> bool:
    """Whether every published figure stands beside trainings by its own recipe."""
    return any(row.figures for row in found) and not any(row.differences for row in found)


def test_errors(finalist: Finalist) -> tuple[float, ...]:
    """Test errors by seed, `WORST` where the training diverged; those that failed for another reason are left out."""
    found = []
    for run in finalist.runs:
        if run.state is TrialState.DIVERGED:
            found.append(WORST)
        elif run.test_error is not None:
            found.append(run.test_error)
    return tuple(found)


def train_errors(finalist: Finalist) -> tuple[float, ...]:
    """Training errors of the last epoch by seed, `WORST` where the training diverged."""
    found = []
    for run in finalist.runs:
        if run.state is TrialState.DIVERGED:
            found.append(WORST)
        elif run.state is TrialState.COMPLETE and run.train_curve:
            found.append(run.train_curve[max(run.train_curve)])
    return tuple(found)


def published_order(of: Figure, other: Figure) -> tuple[str | None, float | None, str]:
    """(`worse`, `better` or None, points where both are numbers, which error) of a figure beside another."""
    for first, second, word in ((of, other, "worse"), (other, of, "better")):
        if first.worse_than == second.key:
            return word, None, first.measure
    if of.error is not None and other.error is not None:
        by = round(of.error - other.error, 6)
        return ("worse" if by > 0 else "better" if by < 0 else None), abs(by), "test error"
    for first, second, word in ((of, other, "worse"), (other, of, "better")):
        if first.error is None and first.least is not None and second.error is not None and second.error < first.least:
            return word, None, "test error"
    return None, None, "test error"


def figure_agreement(of: Figure, errors: Sequence[float], level: float, resolution: float) -> Agrees | None:
    """Whether trainings by a figure's own recipe agree with it; None where no number, bound or failure is printed.

    A number agrees where a further training of ours would lie with probability `level`: mean -+ t s sqrt(1 + 1/n).
    A failure or a bound agrees where the median of ours is above it too. Where the paper gives the mean of runs
    beside the best of them, it is the mean that counts.
    """
    if of.error is None:
        if of.least is None:
            return None
        if not errors:
            return Agrees.NOT_SHOWN
        return Agrees.YES if median(errors) > of.least else Agrees.NO
    single = prediction(errors, level, resolution)
    if single is None:
        return Agrees.NOT_SHOWN
    printed = of.error if of.mean is None else of.mean
    return Agrees.YES if single.low <= printed <= single.high else Agrees.NO


def prediction(errors: Sequence[float], level: float, resolution: float) -> Interval | None:
    """Where a further training lies, for errors that are about normal; None for fewer than 2."""
    of_mean = mean_interval(errors, level, resolution)
    if of_mean is None:
        return None
    middle = (of_mean.low + of_mean.high) / 2
    half = (of_mean.high - of_mean.low) / 2 * sqrt(len(errors) + 1)
    return Interval(middle - half, middle + half, level)


def _row(summary: StudySummary, finals: Finals, finalist: Finalist, by_label: dict[str, Finalist]) -> Row:
    figures = tuple(figure(key) for key in finalist.published)
    errors, resolution = test_errors(finalist), 100 / finals.tested_on
    first = figures[0] if figures else None
    data = str(summary.data["name"])
    other = differences(first, finalist.params, data, finals.trained_on) if first else {}
    reference = by_label.get(finalist.against or "", finals.finalists[0])
    return Row(
        finalist=finalist,
        label=label_of(finalist),
        figures=figures,
        differences=other,
        errors=errors,
        diverged=sum(run.state is TrialState.DIVERGED for run in finalist.runs),
        interval=mean_error_interval(errors, finals.level, resolution),
        order=None if reference is finalist else _order(finals, finalist, reference),
        figure_agrees=figure_agreement(first, errors, finals.level, resolution) if first and not other else None,
    )


def _order(finals: Finals, finalist: Finalist, reference: Finalist) -> Order:
    word, by, measure = None, None, "test error"
    if finalist.published and reference.published:
        word, by, measure = published_order(figure(finalist.published[0]), figure(reference.published[0]))
    of, images = (train_errors, finals.trained_on) if measure == "training error" else (test_errors, finals.tested_on)
    found = difference(of(finalist), of(reference), finals.level, 100 / images)
    return Order(label_of(reference), word, by, measure, found)
