"""Parallel coordinates that lose no run: a trial without a value goes through `n/a`, trials that agree stay apart.

Drawn with Plotly's scatter and not its `parcoords`, which needs WebGL, hides lines behind each other and drops a line
with a missing value.
"""

from collections.abc import Sequence
from html import escape
from itertools import groupby
from math import ceil, floor, log10
from typing import Any

from search import report_facts as facts
from search import report_words as words
from search.records import StudySummary, TrialRecord
from search.report_plots import MAX_CATEGORIES, Figure, focus, joined, label, line_trace, scale
from search.report_words import validation_images

ERROR = "validation error"
SHADES = 6  # steps of the page's colour scale, @shade0 the best

Axis = tuple[dict[int, float], list[tuple[float, str]]]  # trial number -> height in 0..1; ticks (height, text)


def parallel(summary: StudySummary, trials: Sequence[TrialRecord]) -> Figure | None:
    """One line a trial over every parameter that varied and the error; None where nothing varied."""
    paths = words.varied(summary, trials)
    if not paths:
        return None
    by_error = _best_first(trials)
    names = words.headings(paths)
    images = validation_images(summary)
    axes = {names[path]: _parameter_axis(by_error, path) for path in paths}
    axes[ERROR] = _error_axis(by_error, images)

    def points(trial: TrialRecord) -> list[tuple[float, float, str]]:
        name = label(summary, trial)
        values = [words.shown(trial.params.get(path)) for path in paths]
        texts = [f"{name}<br>{escape(names[p])} = {escape(v)}" for p, v in zip(paths, values, strict=True)]
        heights = [heights[trial.number] for heights, _ in axes.values()]
        return [(float(i), y, text) for i, (y, text) in enumerate(zip(heights, [*texts, name], strict=True))]

    chosen = facts.best(trials)
    traces: list[dict[str, Any]] = []
    for shade, members in reversed(_shaded(by_error)):
        rest = [trial for trial in members if trial is not chosen]
        if rest:
            traces.append(line_trace(shade, joined(rest, points), f"@{shade}", 1.6))
    if chosen is not None:
        traces.append(line_trace("best", joined([chosen], points), "@accent", 3.2))
    return {"data": [*traces, focus()], "layout": _layout(axes), "minimum_width": 118 * len(axes)}


def _best_first(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """By error whatever the state; trials without one last."""

    def key(trial: TrialRecord) -> tuple[bool, float, int]:
        error = facts.result(trial)
        return error is None, error or 0.0, trial.number

    return sorted(trials, key=key)


def _shaded(by_error: Sequence[TrialRecord]) -> list[tuple[str, list[TrialRecord]]]:
    """Equal parts by rank of error, since errors crowd at the low end; trials without a result are `bad`."""
    known = sum(facts.result(trial) is not None for trial in by_error)
    names = [f"shade{index * SHADES // known}" if index < known else "bad" for index in range(len(by_error))]
    pairs = groupby(zip(names, by_error, strict=True), key=lambda pair: pair[0])
    return [(name, [trial for _, trial in members]) for name, members in pairs]


def _parameter_axis(by_error: Sequence[TrialRecord], path: str) -> Axis:
    values = {trial.number: trial.params.get(path) for trial in by_error}
    distinct = sorted({value for value in values.values() if value is not None}, key=facts.sort_key)
    numeric = all(facts.sort_key(value)[0] == 0 for value in distinct)
    if numeric and len(distinct) > MAX_CATEGORIES:
        return _range_axis(
            {number: None if v is None else float(v) for number, v in values.items()}, absent_on_top=False
        )
    missing = [None] if None in values.values() else []
    slots: list[Any] = [*missing, *distinct]
    heights: dict[int, float] = {}
    ticks: list[tuple[float, str]] = []
    below = 0.0
    for slot in slots:
        members = [number for number, value in values.items() if value == slot]
        width = 0.5 / len(slots) + 0.5 * len(members) / len(values)  # more lines, more room
        heights |= _spread(members, below + width / 2, 0.34 * width)
        ticks.append((below + width / 2, escape(words.shown(slot))))
        below += width
    return heights, ticks


def _error_axis(by_error: Sequence[TrialRecord], images: int) -> Axis:
    heights, ticks = _range_axis({trial.number: facts.result(trial) for trial in by_error}, absent_on_top=True)
    return heights, [(height, text if text == words.ABSENT else f"{text} %") for height, text in ticks]


def _range_axis(values: dict[int, float | None], absent_on_top: bool) -> Axis:
    """Numbers by size, logarithmic over more than a decade; missing values spread over a stretch of their own."""
    known = {number: value for number, value in values.items() if value is not None}
    absent = [number for number, value in values.items() if value is None]
    room = 0.1 + 0.4 * len(absent) / len(values) if absent else 0.0
    offset = 0.0 if absent_on_top else room
    centre = 1 - 0.4 * room if absent_on_top else 0.4 * room
    heights, ticks = _spread(absent, centre, 0.34 * room), [(centre, words.ABSENT)] if absent else []
    if known:
        log = scale(list(known.values())) == "log"
        low, high = min(known.values()), max(known.values())

        def height(value: float) -> float:
            part = (log10(value / low) / log10(high / low)) if log else (value - low) / ((high - low) or 1.0)
            return offset + (1 - room) * part

        heights |= {number: height(value) for number, value in known.items()}
        ticks += [(height(value), f"{value:.2g}") for value in _tick_values(low, high, log)]
    return heights, ticks


def _tick_values(low: float, high: float, log: bool) -> list[float]:
    """Round values on a logarithmic axis, equal steps from end to end on a linear one."""
    if not log:
        return [low + (high - low) * i / 4 for i in range(5)]
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    digits = (1, 2, 5) if log10(high / low) < 2.5 else (1,)
    return [value for power in powers for digit in digits if low <= (value := digit * 10.0**power) <= high]


def _spread(numbers: Sequence[int], centre: float, half: float) -> dict[int, float]:
    """Heights around `centre`, evenly apart, so that no line hides another."""
    count = len(numbers)
    return {n: centre + half * (2 * (i + 0.5) / count - 1) for i, n in enumerate(numbers)}


def _layout(axes: dict[str, Axis]) -> dict[str, Any]:
    lines = [
        {"type": "line", "x0": i, "x1": i, "y0": 0, "y1": 1, "layer": "below", "line": {"color": "@axis", "width": 1}}
        for i in range(len(axes))
    ]
    notes: list[dict[str, Any]] = []
    for index, (name, (_, ticks)) in enumerate(axes.items()):
        notes.append(_note(index, 1.07, f"<b>{escape(name)}</b>", "center"))
        notes += [{**_note(index, height, text, "left"), "xshift": 4, "bgcolor": "@veil"} for height, text in ticks]
    hidden = {"visible": False, "fixedrange": True}
    return {
        "xaxis": {**hidden, "range": [-0.4, len(axes) - 0.45]},
        "yaxis": {**hidden, "range": [-0.04, 1.12]},
        "shapes": lines,
        "annotations": notes,
        "showlegend": False,
        "height": 440,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
    }


def _note(x: float, y: float, text: str, anchor: str) -> dict[str, Any]:
    return {
        "x": x,
        "y": y,
        "text": text,
        "xanchor": anchor,
        "yanchor": "middle",
        "showarrow": False,
        "font": {"size": 12},
    }
