"""The report's figures of the finals: test errors by seed with their intervals, and learning curves with seed bands."""

from collections.abc import Sequence
from html import escape
from textwrap import wrap
from typing import Any

from search import report_finals as finals_of
from search import report_finals_text as text
from search import report_words as words
from search.records import Finals, SeedRun, StudySummary
from search.report_finals import Standing
from search.report_plots import Figure, error_axis, line_trace, scale
from search.report_published import of_finalist, sentence

NAMED = ("accent", "line", "third")  # colours of the first finalists; the others are drawn fainter
ROW = 34  # pixels
NAME = 30  # characters of a name on one line


def _colour(place: int) -> str:
    return NAMED[place] if place < len(NAMED) else "quiet"


def _label(finals: Finals, standing: Standing) -> str:
    return "<br>".join(escape(line) for line in wrap(finals_of.name(finals, standing.finalist), NAME))


def errors(summary: StudySummary, finals: Finals) -> Figure | None:
    """A row for each finalist: a dot for each seed, the mean with its interval, a mark for a published figure."""
    order = [s for s in finals_of.standings(finals) if s.errors]
    if not order:
        return None
    dots: dict[str, list[Any]] = {"x": [], "y": [], "text": []}
    for row, standing in enumerate(order):
        for run in standing.finalist.runs:
            if run.test_error is not None:
                dots["x"].append(run.test_error)
                dots["y"].append(row)
                dots["text"].append(f"{_label(finals, standing)}<br>seed {run.seed}: {run.test_error:.2f} %")
    traces = [
        {**_points("one seed", dots, "@quiet"), "marker": {"color": "@quiet", "size": 8, "symbol": "circle-open"}},
        *(_mean(finals, order, row) for row in range(len(order))),
        *_published(summary, finals, order),
    ]
    names = [_label(finals, standing) for standing in order]
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": "test error"}, "ticksuffix": " %"},
            "yaxis": {"tickvals": list(range(len(order))), "ticktext": names, "range": [len(order) - 0.4, -0.6]},
            "height": _height(len(order)),
        },
        "rows": True,
    }


def _height(rows: int) -> int:
    """Of both figures, which stand side by side."""
    return max(320, 120 + ROW * rows)


def _points(name: str, points: dict[str, list[Any]], colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        **points,
        "marker": {"color": colour, "size": 10},
        "hovertemplate": "%{text}<extra></extra>",
    }


def _mean(finals: Finals, order: Sequence[Standing], row: int) -> dict[str, Any]:
    standing = order[row]
    found = standing.interval
    told = f"<br>{100 * finals.level:g} % interval {text.interval(standing)}" if found else ""
    hover = f"<b>{_label(finals, standing)}</b><br>{text.error(standing)}, {len(standing.errors)} seeds{told}"
    colour = "@accent" if standing.finalist.number == finals.champion else "@line"
    mean = standing.mean or 0.0
    trace = _points("mean and interval", {"x": [mean], "y": [row], "text": [hover]}, colour)
    trace |= {"showlegend": row == min(1, len(order) - 1), "legendgroup": "mean"}
    trace["marker"] = {"color": colour, "size": 11, "symbol": "diamond"}
    if found:
        bar = {"type": "data", "symmetric": False, "color": colour, "thickness": 2.5, "width": 0}
        trace["error_x"] = {**bar, "array": [found.high - mean], "arrayminus": [mean - found.low]}
    return trace


def _published(summary: StudySummary, finals: Finals, order: Sequence[Standing]) -> list[dict[str, Any]]:
    points: dict[str, list[Any]] = {"x": [], "y": [], "text": []}
    for row, standing in enumerate(order):
        for found in of_finalist(summary, finals, standing.finalist):
            if found.figure.error is not None:
                points["x"].append(found.figure.error)
                points["y"].append(row)
                told = "<br>".join(escape(line) for line in wrap(f"published: {sentence(found)}", 60))
                points["text"].append(f"<b>{_label(finals, standing)}</b><br>{told}")
    mark = {"color": "@ink", "size": 11, "symbol": "x-thin-open", "line": {"width": 2}}
    return [{**_points("published", points, "@ink"), "marker": mark}] if points["x"] else []


def curves(finals: Finals) -> Figure | None:
    """Training error by epoch: the mean over seeds, in a band from the lowest to the highest seed."""
    order = [s for s in finals_of.standings(finals) if any(run.train_curve for run in s.finalist.runs)]
    if not order:
        return None
    traces: list[dict[str, Any]] = []
    for place in reversed(range(len(order))):  # the best on top
        traces += _band(finals, order[place], place) if place < len(NAMED) else []
        traces.append(_line(finals, order[place], place))
    lost = [(standing, run) for standing in order for run in standing.lost if run.train_curve]
    traces += [_lost(finals, standing, run, first=index == 0) for index, (standing, run) in enumerate(lost)]
    values = [error for s in order for run in s.finalist.runs for error in run.train_curve.values()]
    axis = error_axis(values, "training error")
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": "epoch"}, "range": [0.5, finals.epochs + 0.5], "tickformat": "d"},
            "yaxis": axis if scale(values) == "log" else axis | {"rangemode": "tozero"},
            "height": _height(len(order)),
        },
    }


def _by_epoch(standing: Standing) -> dict[int, list[float]]:
    """Epoch -> training errors of the seeds that are not lost."""
    alive = [run for run in standing.finalist.runs if run not in standing.lost]
    epochs = sorted({epoch for run in alive for epoch in run.train_curve})
    return {epoch: [run.train_curve[epoch] for run in alive if epoch in run.train_curve] for epoch in epochs}


def _band(finals: Finals, standing: Standing, place: int) -> list[dict[str, Any]]:
    found = {epoch: values for epoch, values in _by_epoch(standing).items() if len(values) > 1}
    if not found:
        return []
    epochs = list(found)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [*epochs, *reversed(epochs)],
            "y": [*(min(v) for v in found.values()), *(max(v) for v in reversed(found.values()))],
            "fill": "toself",
            "fillcolor": f"@{_colour(place)}_veil",
            "line": {"width": 0, "color": f"@{_colour(place)}"},
            "hoverinfo": "skip",
            "showlegend": False,
            "name": f"seeds of {finals_of.name(finals, standing.finalist)}",
        }
    ]


def _line(finals: Finals, standing: Standing, place: int) -> dict[str, Any]:
    found = _by_epoch(standing)
    points: dict[str, list[Any]] = {"x": list(found), "y": [sum(v) / len(v) for v in found.values()]}
    points["text"] = [
        f"<b>{_label(finals, standing)}</b><br>epoch {epoch}: {sum(v) / len(v):.2f} % of training images"
        f"<br>{words.plural(len(v), 'seed')}, {min(v):.2f} to {max(v):.2f} %"
        for epoch, v in found.items()
    ]
    trace = line_trace(_label(finals, standing), points, f"@{_colour(place)}", 2.6 if place == 0 else 1.8)
    quiet = place >= len(NAMED)
    more = {"legendgroup": "others", "name": "others", "showlegend": place == len(NAMED)} if quiet else {}
    return {**trace, **more, "legendrank": place + 1, "mode": "lines" if len(found) > 1 else "markers"}


def _lost(finals: Finals, standing: Standing, run: SeedRun, first: bool) -> dict[str, Any]:
    epochs = sorted(run.train_curve)
    told = f"<b>{_label(finals, standing)}</b><br>seed {run.seed} {run.state.value}: {escape(run.reason or '')}"
    points = {"x": epochs, "y": [run.train_curve[e] for e in epochs], "text": [told] * len(epochs)}
    return {**line_trace("lost", points, "@bad", 1.4), "legendgroup": "lost", "showlegend": first, "legendrank": 999}
