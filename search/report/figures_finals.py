"""The report's figures of the finals: errors by seed, and learning curves with bands."""

from collections.abc import Sequence
from html import escape
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

from search import formatting
from search.records import Finals, SeedRun
from search.report.analysis import Analysis
from search.report.figures import HOVER, bars, epoch_axis, error_axis, figure, line
from search.report.finals import Standing, name
from search.report.published import source

NAMED = ("accent", "line", "third")  # colours of the first finalists; the others are drawn fainter
ROW = 34  # pixels
NAME = 30  # characters of a name on one line
MOST_CLASSES, CELL, LETTER = 30, 26, 5  # of a confusion matrix; pixels of a cell's height, and of a letter aslant


def _label(finals: Finals, standing: Standing) -> str:
    return _folded(name(finals, standing.finalist), NAME)


def _folded(text: str, width: int) -> str:
    return "<br>".join(escape(line) for line in wrap(text, width))


def _height(rows: int) -> int:
    """Of both figures, which stand side by side."""
    return max(320, 120 + ROW * rows)


def errors(of: Analysis) -> go.Figure | None:
    """A row for each finalist: a dot for each seed, the mean with its interval, a mark for a published figure."""
    finals, order = of.summary.finals, [s for s in of.standings if s.errors]
    if finals is None or not order:
        return None
    seeds = [
        (run.test_error, row, f"{_label(finals, standing)}<br>seed {run.seed}: {run.test_error:.2f} %")
        for row, standing in enumerate(order)
        for run in standing.finalist.runs
        if run.test_error is not None
    ]
    printed = [
        (found.figure.error, row, f"<b>{_label(finals, standing)}</b><br>{_folded(f'published: {source(found)}', 60)}")
        for row, standing in enumerate(order)
        for found in of.published[standing.finalist.number]
        if found.figure.error is not None
    ]
    cross = {"color": "var(--ink)", "size": 11, "symbol": "x-thin-open", "line": {"width": 2}}
    traces = [
        _points("one seed", seeds, marker={"color": "var(--quiet)", "size": 8, "symbol": "circle-open"}),
        *(_mean(finals, order, row) for row in range(len(order))),
        *([_points("published", printed, marker=cross)] if printed else []),
    ]
    names = [_label(finals, standing) for standing in order]
    return figure(
        traces,
        _height(len(order)),
        xaxis={"title": {"text": of.tested}, "ticksuffix": " %"},
        yaxis={"tickvals": list(range(len(order))), "ticktext": names, "range": [len(order) - 0.4, -0.6]},
        meta={"rows": True},
    )


def _points(name: str, points: Sequence[tuple[float, int, str]], **look: Any) -> go.Scatter:
    x, y, text = zip(*points, strict=True)
    return go.Scatter(mode="markers", name=name, x=x, y=y, text=text, hovertemplate=HOVER, **look)


def _mean(finals: Finals, order: Sequence[Standing], row: int) -> go.Scatter:
    standing, found, mean = order[row], order[row].interval, order[row].mean or 0.0
    told = f"<br>{100 * finals.level:g} % interval {standing.between}" if found else ""
    hover = f"<b>{_label(finals, standing)}</b><br>{standing.error}, {len(standing.errors)} seeds{told}"
    colour = "accent" if standing.finalist is finals.champion else "line"
    return _points(
        "mean and interval",
        [(mean, row, hover)],
        marker={"color": f"var(--{colour})", "size": 11, "symbol": "diamond"},
        error_x=bars([mean], [(found.low, found.high)], colour, 2.5) if found else None,
        showlegend=row == min(1, len(order) - 1),
        legendgroup="mean",
    )


def confusion(of: Analysis) -> go.Figure | None:
    """A row for each class, by the part of its test images that is taken for each class; None for too many classes."""
    found, names = of.classes, [escape(one.name) for one in of.classes]
    if not 0 < len(found) <= MOST_CLASSES:
        return None
    counts = [[one.given.get(other.name, 0) for other in found] for one in found]
    parts = [
        [100 * n / one.images if one.images else None for n in row] for one, row in zip(found, counts, strict=True)
    ]
    hover = [
        [f"<b>{name}</b> taken for {other}<br>{n} of {one.images} images" for other, n in zip(names, row, strict=True)]
        for one, name, row in zip(found, names, counts, strict=True)
    ]
    places = {"tickvals": list(range(len(found))), "showgrid": False, "ticktext": [_short(one.name) for one in found]}
    cells = go.Heatmap(
        z=parts,
        text=[[str(n) if n else "" for n in row] for row in counts],
        texttemplate="%{text}",
        hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
        colorscale=[[0, "var(--page)"], [1, "var(--line)"]],
        zmin=0,
        zmax=100,
        xgap=1,
        ygap=1,
        showscale=False,
    )
    side = CELL * len(found)
    return figure(
        [cells],
        130 + side + LETTER * min(NAME, max(len(one.name) for one in found)),
        xaxis={"title": {"text": "taken for"}, "tickangle": -45, **places},
        yaxis={"title": {"text": "class"}, "autorange": "reversed", **places},
        meta={"minimum_width": 160 + side},
    )


def _short(name: str) -> str:
    return escape(name if len(name) <= NAME else f"{name[: NAME - 1]}…")


def curves(of: Analysis) -> go.Figure | None:
    """Training error by epoch: the mean over seeds, in a band from the lowest to the highest seed."""
    finals, order = of.summary.finals, [s for s in of.standings if any(run.train_curve for run in s.finalist.runs)]
    if finals is None or not order:
        return None
    traces: list[go.Scatter] = []
    for place in reversed(range(len(order))):  # the best on top
        traces += _band_and_line(finals, order[place], place)
    lost = [(standing, run) for standing in order for run in standing.lost if run.train_curve]
    traces += [_lost(finals, standing, run, first=index == 0) for index, (standing, run) in enumerate(lost)]
    values = [error for s in order for run in s.finalist.runs for error in run.train_curve.values()]
    axes = {"xaxis": epoch_axis(finals.epochs), "yaxis": error_axis(values, "training error")}
    return figure(traces, _height(len(order)), **axes)


def _by_epoch(standing: Standing) -> dict[int, list[float]]:
    """Epoch -> training errors of the seeds that are not lost."""
    alive = [run for run in standing.finalist.runs if run not in standing.lost]
    epochs = sorted({epoch for run in alive for epoch in run.train_curve})
    return {epoch: [run.train_curve[epoch] for run in alive if epoch in run.train_curve] for epoch in epochs}


def _band_and_line(finals: Finals, standing: Standing, place: int) -> list[go.Scatter]:
    """Of a finalist; from the fourth on the line alone, as one of the others."""
    found, own = _by_epoch(standing), _label(finals, standing)
    means = {epoch: sum(values) / len(values) for epoch, values in found.items()}
    hover = [
        f"<b>{own}</b><br>epoch {epoch}: {means[epoch]:.2f} % of training images"
        f"<br>{formatting.plural(len(values), 'seed')}, {min(values):.2f} to {max(values):.2f} %"
        for epoch, values in found.items()
    ]
    colour = NAMED[place] if place < len(NAMED) else "quiet"
    others = {"legendgroup": "others", "name": "others", "showlegend": place == len(NAMED)}
    more = {"name": own} if place < len(NAMED) else others
    more |= {"legendrank": place + 1, "mode": "lines" if len(found) > 1 else "markers"}
    points = {"x": list(means), "y": list(means.values()), "text": hover, "hovertemplate": HOVER}
    shown = line("", colour, 2.6 if place == 0 else 1.8, **points).update(more)
    wide = {epoch: values for epoch, values in found.items() if len(values) > 1}
    if place >= len(NAMED) or not wide:
        return [shown]
    band = go.Scatter(
        mode="lines",
        x=[*wide, *reversed(wide)],
        y=[*map(min, wide.values()), *map(max, reversed(wide.values()))],
        fill="toself",
        fillcolor=f"var(--{colour}_veil)",
        line={"width": 0, "color": f"var(--{colour})"},
        hoverinfo="skip",
        showlegend=False,
        name=f"seeds of {name(finals, standing.finalist)}",
    )
    return [band, shown]


def _lost(finals: Finals, standing: Standing, run: SeedRun, first: bool) -> go.Scatter:
    epochs = sorted(run.train_curve)
    told = f"<b>{_label(finals, standing)}</b><br>seed {run.seed} {run.state.value}: {escape(run.reason or '')}"
    points = {"x": epochs, "y": [run.train_curve[e] for e in epochs], "text": [told] * len(epochs)}
    return line("lost", "bad", 1.4, **points, hovertemplate=HOVER, legendgroup="lost", showlegend=first, legendrank=999)
