"""A study beside what papers report: the figures of its configurations, and whether their orders agree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from math import sqrt
from statistics import fmean, median
from typing import Any

from search import formatting
from search.formatting import table
from search.records import Finalist, Finals, StudySummary, TrialRecord, TrialState
from search.spec import Figure, Found
from search.statistics import Difference, Interval, difference, mean_error_interval, mean_interval


def of_params(summary: StudySummary, params: Mapping[str, Any]) -> tuple[Found, ...]:
    """Those of exactly this network, trained on the training images of a search."""
    return Figure.of_network(params, summary.data["name"], int(summary.data["train"]))


def of_finalist(summary: StudySummary, finals: Finals, finalist: Finalist) -> tuple[Found, ...]:
    """Those that the study sets beside it, or else those of exactly its network."""
    data, images = summary.data["name"], finals.trained_on
    if finalist.published:
        return tuple(Figure.of(key).beside(finalist.params, data, images) for key in finalist.published)
    return Figure.of_network(finalist.params, data, images)


def published_sentence(found: Found) -> str:
    """The figure, where it is from, and what was done in another way."""
    other = ", ".join(
        f"{path} {formatting.shown(here)} in place of {formatting.shown(paper)}"
        for path, (paper, here) in found.differences.items()
    )
    how = f"; here with {other}" if other else ""
    return f"{found.figure} ({found.figure.statistic}; {found.figure.source}){how}"


def short(found: tuple[Found, ...]) -> str:
    """`6.61 %`, for a cell; empty where there is none."""
    return " / ".join(dict.fromkeys(str(one.figure) for one in found))


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
            found.append(TrialRecord.WORST)
        elif run.test_error is not None:
            found.append(run.test_error)
    return tuple(found)


def train_errors(finalist: Finalist) -> tuple[float, ...]:
    """Training errors of the last epoch by seed, `WORST` where the training diverged."""
    found = []
    for run in finalist.runs:
        if run.state is TrialState.DIVERGED:
            found.append(TrialRecord.WORST)
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
    figures = tuple(Figure.of(key) for key in finalist.published)
    errors, resolution = test_errors(finalist), 100 / finals.tested_on
    first = figures[0] if figures else None
    data = str(summary.data["name"])
    other = first.beside(finalist.params, data, finals.trained_on).differences if first else {}
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
        word, by, measure = published_order(Figure.of(finalist.published[0]), Figure.of(reference.published[0]))
    of, images = (train_errors, finals.trained_on) if measure == "training error" else (test_errors, finals.tested_on)
    found = difference(of(finalist), of(reference), finals.level, 100 / images)
    return Order(label_of(reference), word, by, measure, found)


NUMERIC = ("median", "mean", "n")
VERDICTS = {Agrees.YES: "reproduced", Agrees.NOT_SHOWN: "not shown", Agrees.NO: "contradicted"}


def comparison_sentence(summary: StudySummary) -> str | None:
    """Which published orders, and at full scale which figures, are found here too; None where nothing is published."""
    finals, found = summary.finals, rows(summary)
    if finals is None or not any(row.figures for row in found):
        return None
    orders = {row.label: row.order.agrees for row in found if row.order and row.order.agrees}
    beside = {row.order.against for row in found if row.order and row.order.agrees}
    what = f"published order{'' if len(orders) == 1 else 's'}" + (f" beside {min(beside)}" if len(beside) == 1 else "")
    parts = [_counted(orders, what, VERDICTS)] if orders else []
    figures = {row.label: row.figure_agrees for row in found if row.figure_agrees}
    if at_full_scale(found) and figures:
        says = {Agrees.YES: "like ours", Agrees.NOT_SHOWN: "not comparable", Agrees.NO: "unlike ours"}
        parts.append(_counted(figures, f"published figure{'' if len(figures) == 1 else 's'}", says))
    if not parts:
        return "Nothing that is published of these rows can be compared yet."
    counts = sorted({len(row.errors) for row in found})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    where = "" if at_full_scale(found) else f", {_smaller(finals)}"
    told = "; ".join(parts)
    return f"{told[0].upper()}{told[1:]} ({n} trainings of each row, {100 * finals.level:g} % intervals{where})."


def _counted(verdicts: dict[str, Agrees], what: str, says: dict[Agrees, str]) -> str:
    groups = []
    for verdict, word in says.items():
        labels = [label for label, one in verdicts.items() if one is verdict]
        if labels:
            groups.append(f"{len(labels)} {word} ({'; '.join(labels)})")
    return f"of {len(verdicts)} {what}: {', '.join(groups)}"


def _smaller(finals: Finals) -> str:
    return f"at scale {finals.scale_name}" if finals.scale_name else "not by the published recipe"


def scale(summary: StudySummary) -> str | None:
    """What was done in another way than published; None where nothing was, or nothing is known of it."""
    finals = summary.finals
    if finals is None or not finals.scale:
        return None
    parts = [f"{path} {_plain(now)} in place of {_plain(before)}" for path, (before, now) in finals.scale.items()]
    named = f"Scale {finals.scale_name}" if finals.scale_name else "Changed from the recipe"
    return f"{named}: {', '.join(parts)}."


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " | ".join(_plain(one) for one in value)
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def cells(summary: StudySummary) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table, as text."""
    finals, found = summary.finals, rows(summary)
    if finals is None:
        return (), []
    published, full = any(row.figures for row in found), at_full_scale(found)
    ordered = any(row.order for row in found)
    columns: dict[str, Callable[[Row], str]] = {"row": lambda row: _name(row, found)}
    if published:
        columns["published"] = lambda row: "; ".join(map(_printed, row.figures))
    columns["median"] = lambda row: formatting.percent(row.median, finals.tested_on)
    columns["mean"] = lambda row: _mean(row, finals.tested_on)
    columns["n"] = lambda row: f"{len(row.errors)}" + (f" ({row.diverged} diverged)" if row.diverged else "")
    columns[f"{100 * finals.level:g} % interval"] = lambda row: _interval(row, finals.tested_on)
    if published and full:
        columns["figure agrees?"] = lambda row: row.figure_agrees or ""
    if ordered:
        columns["beside"] = lambda row: _beside(row.order)
    if published:
        columns["order agrees?"] = lambda row: (row.order.agrees if row.order else None) or ""
    return tuple(columns), [tuple(str(cell(row)) for cell in columns.values()) for row in found]


def _name(row: Row, found: Sequence[Row]) -> str:
    """The label, and in which way its network is another than the published one where not all rows differ alike."""
    own = {path: pair for path, pair in row.differences.items() if path.startswith("net.")}
    common = [other.differences for other in found if other.figures]
    parts = [
        f"{path.removeprefix('net.').replace('_', ' ')} {formatting.shown(here)}"
        for path, (paper, here) in own.items()
        if here is not None and any(other.get(path) != (paper, here) for other in common)
    ]
    return f"{row.label} (here {', '.join(parts)})" if parts else row.label


def _printed(one: Figure) -> str:
    mean = f"; mean {one.mean:.2f} ± {one.std:.2f}" if one.mean is not None and one.std is not None else ""
    return f"{one} ({one.statistic}{mean})"


def _mean(row: Row, images: int) -> str:
    if row.mean is None or row.std is None:
        return formatting.percent(row.mean, images)
    decimals = 1 if images <= 1000 else 2
    return f"{row.mean:.{decimals}f} ± {row.std:.{decimals}f} %"


def _interval(row: Row, images: int) -> str:
    if row.interval is None:
        return formatting.ABSENT
    decimals = 1 if images <= 1000 else 2
    return f"{row.interval.low:.{decimals}f} to {row.interval.high:.{decimals}f} %"


def _beside(order: Order | None) -> str:
    """`worse than original by 3.21 points (2.10 to 4.32); published: worse by 5.74`."""
    if order is None:
        return "reference"
    error = "" if order.measure == "test error" else f", {order.measure}"
    if order.found is None:
        ours = f"{order.against}: too few trainings{error}"
    else:
        span = f"{order.found.low:+.2f} to {order.found.high:+.2f}"
        word = f"{order.ours} than" if order.ours else "not told from"
        ours = f"{word} {order.against} ({order.found.mean:+.2f} points, {span}{error})"
    if order.published is None:
        return ours
    by = "" if order.by is None else f" by {order.by:.2f}"
    return f"{ours}; published: {order.published}{by}"


def explanation(summary: StudySummary) -> str:
    """What the columns mean, and how far they can be trusted."""
    finals, found = summary.finals, rows(summary)
    if finals is None or not found:
        return ""
    level = f"{100 * finals.level:g} %"
    text = (
        f"Test errors after the last epoch, on {finals.tested_on:,} images, of networks trained on "
        f"{finals.trained_on:,}; mean ± standard deviation of single trainings, and Student's interval of the mean."
    )
    if any(row.diverged for row in found):
        text += f" A training that diverged counts as {TrialRecord.WORST:g} %."
    if any(row.order for row in found):
        wrong = f"{100 * (1 - finals.level):.3g} %"
        text += (
            f" Beside another row: the difference of the means with Welch's {level} interval, each for itself, so that"
        )
        text += f" of rows that are alike {wrong} are told apart."
    if not any(row.figures for row in found):
        return text
    text += (
        " The order agrees (yes) where the paper and we both find a row worse, or both better, than the other; no: we"
        " find the contrary; not shown: our interval holds 0."
    )
    if at_full_scale(found):
        return text + (
            f" A figure agrees where a further training of ours would lie with probability {level}, and a printed fail"
            f" (more than {Figure.FAIL:g} %) or bound where our median is above it;"
            " a median of 5 runs varies less than one."
        )
    return text + " The recipe is not the published one, so figures are not compared, only orders."


def markdown(summary: StudySummary) -> str:
    """The table with what it means, in Markdown; empty without finals."""
    head, body = cells(summary)
    if not body:
        return ""
    parts = [scale(summary), table(head, body, numeric=NUMERIC), explanation(summary)]
    return "\n\n".join(part for part in parts if part)


def html(summary: StudySummary) -> str:
    """The same in HTML, every string of the study escaped."""
    head, body = cells(summary)
    if not body:
        return ""
    said = scale(summary)
    titles = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(f"<tr>{''.join(map(_cell, head, row))}</tr>" for row in body)
    return (
        (f"<p>{escape(said)}</p>" if said else "")
        + f'<table class="compared"><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>'
        + f'<p class="minor">{escape(explanation(summary))}</p>'
    )


def _cell(name: str, text: str) -> str:
    if name == "row":
        return f'<th scope="row">{escape(text)}</th>'
    look = ' class="number"' if name in NUMERIC else ""
    return f"<td{look}>{escape(text)}</td>"
