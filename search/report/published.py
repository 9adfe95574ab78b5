"""A study beside what papers report: the figures of its configurations, and whether their orders are the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from search import formatting
from search.records import Finalist, Finals, StudySummary, TrialRecord, TrialState
from search.spec import Figure, Found
from search.statistics import Difference, difference


def of_params(summary: StudySummary, params: Mapping[str, Any]) -> tuple[Found, ...]:
    """Those of exactly this network, trained on the training images of a search."""
    return Figure.of_network(params, summary.data["name"], int(summary.data["train"]))


def of_finalist(summary: StudySummary, finalist: Finalist) -> tuple[Found, ...]:
    """Those that the study sets beside it, or else those of exactly its network."""
    data, images = summary.data["name"], summary.finals.trained_on if summary.finals else None
    if finalist.published:
        return tuple(Figure.of(key).beside(finalist.params, data, images) for key in finalist.published)
    return Figure.of_network(finalist.params, data, images)


def source(found: Found) -> str:
    """The figure, where it is from, and what was done in another way."""
    how, one = f"; here with {changed(found.differences)}" if found.differences else "", found.figure
    mean = f"; mean {one.mean:.2f} ± {one.std:.2f}" if one.mean is not None and one.std is not None else ""
    note = f"; {one.note}" if one.note else ""
    return f"{one} ({one.statistic}{mean}; {one.source}){note}{how}"


def changed(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """`net.depth 20 in place of 110`: what is done here in place of what a paper did."""
    shown = {path: (formatting.shown(here), formatting.shown(paper)) for path, (paper, here) in differences.items()}
    return ", ".join(f"{path} {here} in place of {paper}" for path, (here, paper) in shown.items())


class Order(StrEnum):
    """How two configurations are ordered here, beside how a paper orders them."""

    SAME = "same order"
    OTHER = "other order"
    NOT_TOLD = "not told apart"  # our interval of the difference holds 0


@dataclass(frozen=True)
class Comparison:
    """A configuration beside the one that the study compares it with."""

    against: str  # the other's name
    found: Difference | None  # our mean test error less the other's; None where there are too few trainings
    published: float | None  # the sign of the same difference in a paper; None where it prints no order
    order: Order | None  # None where no paper orders the two


def comparisons(finals: Finals) -> dict[int, Comparison]:
    """Of every configuration but the one that the others are compared with, by number.

    A training that diverged counts as 100 %. The interval of a difference is Welch's, each for itself.
    """
    by_label = {one.label: one for one in finals.finalists}
    pairs = [(one, by_label.get(one.against or "", finals.finalists[0])) for one in finals.finalists]
    return {one.number: _comparison(finals, one, other) for one, other in pairs if one is not other}


def _comparison(finals: Finals, one: Finalist, other: Finalist) -> Comparison:
    found = difference(_errors(one), _errors(other), finals.level, 100 / finals.tested_on)
    printed = published_order(one, other)
    if not printed:
        order = None
    elif found is None or found.low <= 0 <= found.high:
        order = Order.NOT_TOLD
    else:
        order = Order.SAME if found.mean * printed > 0 else Order.OTHER
    return Comparison(other.label or f"row {other.number + 1}", found, printed, order)


def _errors(finalist: Finalist) -> list[float]:
    """Test errors by seed, `WORST` where the training diverged; those that failed for another reason are left out."""
    errors = [TrialRecord.WORST if r.state is TrialState.DIVERGED else r.test_error for r in finalist.runs]
    return [error for error in errors if error is not None]


def published_order(one: Finalist, other: Finalist) -> float | None:
    """Above 0 where the paper has `one` above the other, below 0 the reverse; None where it prints no order.

    A figure that is no number is above another only by its bound: what is printed as a failure is above 20 %.
    """
    if not one.published or not other.published:
        return None
    a, b = Figure.of(one.published[0]), Figure.of(other.published[0])
    if a.error is not None and b.error is not None:
        return round(a.error - b.error, 6) or None
    if a.least is not None and b.error is not None and b.error < a.least:
        return 1.0
    if b.least is not None and a.error is not None and a.error < b.least:
        return -1.0
    return None
