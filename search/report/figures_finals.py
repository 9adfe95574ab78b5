"""The report's figures of the finals: errors by seed, learning curves with bands, effects with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from statistics import median
from textwrap import wrap
from typing import Any

from search import formatting
from search.records import Finals, SeedRun, StudySummary, TrialRecord
from search.report import wording
from search.report.effects import Contrast, Effect, basis, by_value
from search.report.figures import Figure, error_axis, label, line_trace, scale
from search.report.finals import Standing, name, standings
from search.report.published import of_finalist, published_sentence
from search.report.wording import validation_images

NAMED = ("accent", "line", "third")  # colours of the first finalists; the others are drawn fainter
ROW = 34  # pixels
NAME = 30  # characters of a name on one line


def _colour(place: int) -> str:
    return NAMED[place] if place < len(NAMED) else "quiet"


def _label(finals: Finals, standing: Standing) -> str:
    return "<br>".join(escape(line) for line in wrap(name(finals, standing.finalist), NAME))


def errors(summary: StudySummary, finals: Finals) -> Figure | None:
    """A row for each finalist: a dot for each seed, the mean with its interval, a mark for a published figure."""
    order = [s for s in standings(finals) if s.errors]
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
    told = f"<br>{100 * finals.level:g} % interval {wording.interval(standing)}" if found else ""
    hover = f"<b>{_label(finals, standing)}</b><br>{wording.error(standing)}, {len(standing.errors)} seeds{told}"
    colour = "@accent" if standing.finalist.number == finals.champion_number else "@line"
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
                told = "<br>".join(escape(line) for line in wrap(f"published: {published_sentence(found)}", 60))
                points["text"].append(f"<b>{_label(finals, standing)}</b><br>{told}")
    mark = {"color": "@ink", "size": 11, "symbol": "x-thin-open", "line": {"width": 2}}
    return [{**_points("published", points, "@ink"), "marker": mark}] if points["x"] else []


def curves(finals: Finals) -> Figure | None:
    """Training error by epoch: the mean over seeds, in a band from the lowest to the highest seed."""
    order = [s for s in standings(finals) if any(run.train_curve for run in s.finalist.runs)]
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
            "name": f"seeds of {name(finals, standing.finalist)}",
        }
    ]


def _line(finals: Finals, standing: Standing, place: int) -> dict[str, Any]:
    found = _by_epoch(standing)
    points: dict[str, list[Any]] = {"x": list(found), "y": [sum(v) / len(v) for v in found.values()]}
    points["text"] = [
        f"<b>{_label(finals, standing)}</b><br>epoch {epoch}: {sum(v) / len(v):.2f} % of training images"
        f"<br>{formatting.plural(len(v), 'seed')}, {min(v):.2f} to {max(v):.2f} %"
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


EFFECT_ROW = 27  # pixels
TIMES = (1, 2, 0.5, 1.5, 5, 0.2, 3, 0.67, 0.33, 10, 0.1, 1.25, 0.8)  # the most welcome tick first


@dataclass(frozen=True)
class Row:
    """One interval of a figure of intervals."""

    group: str  # rows of one group stand together below its name
    name: str
    middle: float
    low: float
    high: float
    note: str  # at the right end
    hover: str


def intervals(rows: Sequence[Row], axis: dict[str, Any], nothing: float) -> Figure | None:
    """Rows by group, each its interval: red above `nothing`, green below, grey where it holds that value."""
    if not rows:
        return None
    names: list[str] = []
    at: list[int] = []
    for group, members in groupby(rows, key=lambda row: row.group):
        names.append(f"<b>{escape(group)}</b>")
        for row in members:
            at.append(len(names))
            names.append(escape(row.name))
    looks = {"higher error": "@bad", "lower error": "@good", "not told apart": "@muted"}
    traces = [
        _trace(name, colour, [pair for pair in zip(rows, at, strict=True) if _told(pair[0], nothing) == name])
        for name, colour in looks.items()
    ]
    notes = [
        {"x": 1.01, "xref": "paper", "y": y, "text": escape(row.note), "xanchor": "left", "yanchor": "middle"}
        | {"showarrow": False, "font": {"size": 11, "color": "@muted"}}
        for row, y in zip(rows, at, strict=True)
    ]
    zero = {"type": "line", "x0": nothing, "x1": nothing, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
    return {
        "data": [trace for trace in traces if trace["x"]],
        "layout": {
            "xaxis": {**axis, "zeroline": False},
            "yaxis": {"tickvals": list(range(len(names))), "ticktext": names, "showgrid": False}
            | {"range": [len(names) - 0.5, -0.6]},
            "shapes": [{**zero, "line": {"color": "@axis", "width": 1.5}}],
            "annotations": notes,
            "height": 110 + EFFECT_ROW * len(names),
            "margin": {"r": 14 + 6 * max(len(row.note) for row in rows)},
        },
        "rows": True,
    }


def _told(row: Row, nothing: float) -> str:
    return "higher error" if row.low > nothing else "lower error" if row.high < nothing else "not told apart"


def _trace(name: str, colour: str, rows: Sequence[tuple[Row, int]]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [row.middle for row, _ in rows],
        "y": [y for _, y in rows],
        "text": [row.hover for row, _ in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": colour, "size": 9},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [row.high - row.middle for row, _ in rows],
            "arrayminus": [row.middle - row.low for row, _ in rows],
            "color": colour,
            "thickness": 2,
            "width": 0,
        },
    }


def ratios(found: Sequence[Effect]) -> Figure | None:
    """Effects between trials of the search: how many times as large the error is."""
    names = formatting.headings([effect.path for effect in found])
    rows = [
        Row(
            f"{names[one.path]}, against {formatting.shown(one.reference)}",
            one.value,
            one.ratio,
            one.low,
            one.high,
            f"{one.pairs} pairs" if one.pairs else "model",
            f"<b>{escape(names[one.path])} {escape(one.value)}</b> in place of {escape(one.reference)}"
            f"<br>error x {one.ratio:.2f}, 95 % interval {one.low:.2f} to {one.high:.2f}"
            f"<br>{basis(one)}",
        )
        for one in found
    ]
    low, high = min((row.low for row in rows), default=1.0), max((row.high for row in rows), default=1.0)
    ticks = _spaced([tick for tick in TIMES if low / 1.1 <= tick <= high * 1.1], high / low)
    axis = {"type": "log", "title": {"text": "error, times"}, "tickvals": ticks}
    return intervals(rows, {**axis, "ticktext": [f"x {tick:g}" for tick in ticks], "tickangle": 0}, 1.0)


def _spaced(ticks: Sequence[float], span: float) -> list[float]:
    """Those that leave room for their text, 1 always among them."""
    least = span ** (1 / 8)
    kept = [1.0]
    for tick in ticks:
        if all(max(tick, other) / min(tick, other) >= least for other in kept):
            kept.append(tick)
    return sorted(kept)


def effect(summary: StudySummary, trials: Sequence[TrialRecord], path: str) -> Figure:
    """Errors at the first rung by value of one parameter: each trial a dot, the median a bar."""
    groups = by_value(trials, path, summary.first_rung)
    images = validation_images(summary)
    dots: dict[str, list[Any]] = {"x": [], "y": [], "text": [], "customdata": []}
    medians: dict[str, list[Any]] = {"x": [], "y": []}
    for index, members in enumerate(groups.values()):
        by_error = sorted(members, key=lambda pair: pair[1])
        for place, (trial, error) in enumerate(by_error):
            dots["x"].append(index + 0.11 * (place % 5 - 2))  # dots of equal error stand side by side
            dots["y"].append(error)
            dots["text"].append(
                f"{label(summary, trial)}<br>at epoch {summary.first_rung}: {formatting.percent(error, images)}"
            )
            dots["customdata"].append(trial.number)
        medians["x"] += [index - 0.32, index + 0.32, None]
        medians["y"] += [median([error for _, error in members])] * 2 + [None]
    ticks = [f"{escape(value).replace('_', '_<br>')}<br><i>n = {len(members)}</i>" for value, members in groups.items()]
    dot = {"type": "scatter", "mode": "markers", "name": "trial", **dots, "hovertemplate": "%{text}<extra></extra>"}
    bar = {"type": "scatter", "mode": "lines", "name": "median", **medians, "hoverinfo": "skip"}
    x_axis = {"tickvals": list(range(len(groups))), "ticktext": ticks, "range": [-0.6, len(groups) - 0.4]}
    return {
        "data": [
            {**dot, "marker": {"color": "@line", "size": 7, "opacity": 0.75}},
            {**bar, "line": {"color": "@accent", "width": 3}},
        ],
        "layout": {
            "title": {"text": f"<b>{escape(formatting.headings([path])[path])}</b>", "font": {"size": 14}},
            "xaxis": {**x_axis, "showgrid": False, "tickangle": 0},
            "yaxis": error_axis(dots["y"], f"error at epoch {summary.first_rung}"),
            "height": 320,
            "showlegend": False,
        },
    }


def points(finals: Finals, found: Sequence[Contrast]) -> Figure | None:
    """Differences of test error between finalists."""
    names = formatting.headings([one.path for one in found])
    rows = [
        Row(
            f"{names[one.path]}, against {formatting.shown(one.reference)}",
            _contrasted(one),
            one.difference.mean,
            one.difference.low,
            one.difference.high,
            f"{one.seeds[0]} + {one.seeds[1]} seeds",
            f"<b>{escape(name(finals, one.one))}</b> less {escape(name(finals, one.other))}"
            f"<br>{one.difference.mean:+.2f} points of test error, {100 * finals.level:g} % interval"
            f" {one.difference.low:+.2f} to {one.difference.high:+.2f}<br>p = {one.difference.p_value:.2g}",
        )
        for one in found
    ]
    return intervals(rows, {"title": {"text": "points of test error"}}, 0.0)


def _contrasted(one: Contrast) -> str:
    """What the study calls it, or the value and what follows from it."""
    extra = [p for p in sorted(one.one.params.keys() - one.other.params.keys()) if p.startswith("net.")]
    follows = [f"{p.rpartition('.')[2].replace('_', ' ')} {formatting.shown(one.one.params[p])}" for p in extra]
    return one.one.label or ", ".join([formatting.shown(one.value), *follows])
