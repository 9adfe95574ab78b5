"""The report's figures of what one choice does to the error: intervals of effects, and every trial as a dot."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from search import report_facts as facts
from search import report_words as words
from search.records import Finals, StudySummary, TrialRecord
from search.report_contrasts import Contrast
from search.report_effects import Effect, basis
from search.report_finals import name
from search.report_plots import Figure, error_axis, label
from search.report_words import validation_images

ROW = 27  # pixels
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
            "height": 110 + ROW * len(names),
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
    names = words.headings([effect.path for effect in found])
    rows = [
        Row(
            f"{names[one.path]}, against {words.shown(one.reference)}",
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
    groups = facts.effect(trials, path, summary.first_rung)
    images = validation_images(summary)
    dots: dict[str, list[Any]] = {"x": [], "y": [], "text": [], "customdata": []}
    medians: dict[str, list[Any]] = {"x": [], "y": []}
    for index, members in enumerate(groups.values()):
        by_error = sorted(members, key=lambda pair: pair[1])
        for place, (trial, error) in enumerate(by_error):
            dots["x"].append(index + 0.11 * (place % 5 - 2))  # dots of equal error stand side by side
            dots["y"].append(error)
            dots["text"].append(
                f"{label(summary, trial)}<br>at epoch {summary.first_rung}: {words.percent(error, images)}"
            )
            dots["customdata"].append(trial.number)
        medians["x"] += [index - 0.32, index + 0.32, None]
        medians["y"] += [facts.middle([error for _, error in members])] * 2 + [None]
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
            "title": {"text": f"<b>{escape(words.headings([path])[path])}</b>", "font": {"size": 14}},
            "xaxis": {**x_axis, "showgrid": False, "tickangle": 0},
            "yaxis": error_axis(dots["y"], f"error at epoch {summary.first_rung}"),
            "height": 320,
            "showlegend": False,
        },
    }


def points(finals: Finals, found: Sequence[Contrast]) -> Figure | None:
    """Differences of test error between finalists."""
    names = words.headings([one.path for one in found])
    rows = [
        Row(
            f"{names[one.path]}, against {words.shown(one.reference)}",
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
    follows = [f"{p.rpartition('.')[2].replace('_', ' ')} {words.shown(one.one.params[p])}" for p in extra]
    return one.one.label or ", ".join([words.shown(one.value), *follows])
