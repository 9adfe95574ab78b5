"""The table of a study that compares: each row's published figure beside our trainings, and whether they agree."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from search import report_words as words
from search.agreement import Agrees, Order, Row, at_full_scale, rows
from search.markdown_table import table
from search.published import FAIL, Figure
from search.records import WORST, Finals, StudySummary

__all__ = ["cells", "explanation", "html", "markdown", "rows", "scale", "sentence"]

NUMERIC = ("median", "mean", "n")
VERDICTS = {Agrees.YES: "reproduced", Agrees.NOT_SHOWN: "not shown", Agrees.NO: "contradicted"}


def sentence(summary: StudySummary) -> str | None:
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
    columns["median"] = lambda row: words.percent(row.median, finals.tested_on)
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
        f"{path.removeprefix('net.').replace('_', ' ')} {words.shown(here)}"
        for path, (paper, here) in own.items()
        if here is not None and any(other.get(path) != (paper, here) for other in common)
    ]
    return f"{row.label} (here {', '.join(parts)})" if parts else row.label


def _printed(one: Figure) -> str:
    mean = f"; mean {one.mean:.2f} ± {one.std:.2f}" if one.mean is not None and one.std is not None else ""
    return f"{one} ({one.statistic}{mean})"


def _mean(row: Row, images: int) -> str:
    if row.mean is None or row.std is None:
        return words.percent(row.mean, images)
    decimals = 1 if images <= 1000 else 2
    return f"{row.mean:.{decimals}f} ± {row.std:.{decimals}f} %"


def _interval(row: Row, images: int) -> str:
    if row.interval is None:
        return words.ABSENT
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
        text += f" A training that diverged counts as {WORST:g} %."
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
            f" (more than {FAIL:g} %) or bound where our median is above it; a median of 5 runs varies less than one."
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
