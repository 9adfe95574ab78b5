"""The report's figures of the search as plain Plotly JSON; `@names` become the page's light or dark colours.

Drawn with Plotly's scatter and not its `parcoords`, which needs WebGL, hides lines behind each other and drops a line
with a missing value.
"""

from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby
from math import ceil, floor, log10
from typing import Any

from search import formatting
from search.records import StudySummary, TrialRecord, Trials, TrialState
from search.report import wording
from search.report.wording import validation_images
from search.spec import Objective

Figure = dict[str, Any]
DECADE = 10  # positive values that span more than this factor are drawn on a logarithmic axis
MAX_CATEGORIES = 8  # up to so many values of a parameter can be compared side by side


def label(summary: StudySummary, trial: TrialRecord) -> str:
    """Hover text of a trial; user's strings are escaped, as Plotly reads tags."""
    error = formatting.percent(trial.measured, validation_images(summary))
    head = f"<b>trial {trial.number}</b> · {escape(formatting.network(trial.params))}"
    return f"{head}<br>{error} after {formatting.plural(trial.epochs, 'epoch')} · {trial.state.value}"


def scale(values: Sequence[float]) -> str:
    """`log` where positive values span more than a decade, else `linear`."""
    return "log" if values and min(values) > 0 and max(values) > DECADE * min(values) else "linear"


def error_axis(errors: Sequence[float], title: str) -> dict[str, Any]:
    """A y axis in percent."""
    if scale(errors) == "linear":
        return {"title": {"text": title}, "rangemode": "tozero", "ticksuffix": " %"}
    ticks = [digit * 10.0**power for power in range(-3, 2) for digit in (1, 2, 5)] + [100.0]
    return {"title": {"text": title}, "type": "log", "tickvals": ticks, "ticktext": [f"{tick:g} %" for tick in ticks]}


def joined(
    trials: Sequence[TrialRecord], points: Callable[[TrialRecord], list[tuple[float, float, str]]]
) -> dict[str, list[Any]]:
    """One trace of many lines: each trial's points (x, y, hover text), a gap after each trial."""
    trace: dict[str, list[Any]] = {"x": [], "y": [], "text": [], "customdata": []}
    for trial in trials:
        for x, y, text in points(trial):
            for key, value in zip(trace, (x, y, text, trial.number), strict=True):
                trace[key].append(value)
        for column in trace.values():
            column.append(None)
    return trace


def curves(summary: StudySummary, trials: Sequence[TrialRecord]) -> Figure | None:
    """Validation error by epoch, every trial that ended one; the best one on top."""
    with_curve = [trial for trial in trials if trial.lowest is not None]
    if not with_curve:
        return None
    chosen = Trials(trials).best
    images = validation_images(summary)

    def points(trial: TrialRecord) -> list[tuple[float, float, str]]:
        name = label(summary, trial)
        line = sorted(trial.finite_curve.items())
        return [(epoch, y, f"{name}<br>epoch {epoch}: {formatting.percent(y, images)}") for epoch, y in line]

    groups = [
        ("stopped early", [TrialState.PRUNED], "@faint", 1.2),
        ("failed or diverged", [TrialState.FAILED, TrialState.DIVERGED, TrialState.INFEASIBLE], "@bad", 1.2),
        ("running", [TrialState.RUNNING], "@muted", 1.2),
        ("complete", [TrialState.COMPLETE], "@line", 1.6),
    ]
    traces: list[dict[str, Any]] = []
    for name, states, colour, width in groups:
        members = [t for t in with_curve if t.state in states and t is not chosen]
        if members:
            traces.append(line_trace(name, joined(members, points), colour, width))
    if chosen is not None:
        traces.append(line_trace(f"best: trial {chosen.number}", joined([chosen], points), "@accent", 3))
    errors = [error for trial in with_curve for error in trial.finite_curve.values()]
    layout = {
        "xaxis": {"title": {"text": "epoch"}, "range": [0.5, summary.epochs + 0.5], "tickformat": "d"},
        "yaxis": error_axis(errors, "validation error"),
        "height": 420,
    }
    return {"data": [*traces, focus()], "layout": layout}


def line_trace(name: str, points: dict[str, list[Any]], colour: str, width: float) -> dict[str, Any]:
    """A trace of lines with small markers, so that a trial of one epoch is seen too."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        **points,
        "line": {"color": colour, "width": width},
        "marker": {"color": colour, "size": width + 2.5},
        "hovertemplate": "%{text}<extra></extra>",
        "connectgaps": False,
    }


def focus() -> dict[str, Any]:
    """An empty trace that the page fills with the trial under the pointer."""
    trace = line_trace("focus", {"x": [], "y": []}, "@ink", 2.5)
    return {**trace, "showlegend": False, "hoverinfo": "skip", "hovertemplate": None}


def importances(importance: dict[str, float]) -> Figure | None:
    """A bar for each parameter, the largest on top."""
    if not importance:
        return None
    rising = sorted(importance.items(), key=lambda item: item[1])
    names = formatting.headings([path for path, _ in rising])
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": [share for _, share in rising],
        "y": [escape(names[path]) for path, _ in rising],
        "text": [f"{100 * share:.0f} %" for _, share in rising],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": "@line"},
        "hovertemplate": "%{y}: %{text}<extra></extra>",
    }
    x_axis = {"tickformat": ".0%", "rangemode": "tozero", "range": [0, 1.15 * rising[-1][1]]}
    layout = {"xaxis": x_axis, "yaxis": {"automargin": True, "showgrid": False}, "height": 90 + 30 * len(rising)}
    return {"data": [bar], "layout": layout}


ERROR = "validation error"
SHADES = 6  # steps of the page's colour scale, @shade0 the best

Axis = tuple[dict[int, float], list[tuple[float, str]]]  # trial number -> height in 0..1; ticks (height, text)


def parallel(summary: StudySummary, trials: Sequence[TrialRecord]) -> Figure | None:
    """One line a trial over every parameter that varied and the error; None where nothing varied."""
    paths = wording.varied(summary, trials)
    if not paths:
        return None
    by_error = _best_first(trials)
    names = formatting.headings(paths)
    images = validation_images(summary)
    axes = {names[path]: _parameter_axis(by_error, path) for path in paths}
    axes[ERROR] = _error_axis(by_error, images)

    def points(trial: TrialRecord) -> list[tuple[float, float, str]]:
        name = label(summary, trial)
        values = [formatting.shown(trial.params.get(path)) for path in paths]
        texts = [f"{name}<br>{escape(names[p])} = {escape(v)}" for p, v in zip(paths, values, strict=True)]
        heights = [heights[trial.number] for heights, _ in axes.values()]
        return [(float(i), y, text) for i, (y, text) in enumerate(zip(heights, [*texts, name], strict=True))]

    chosen = Trials(trials).best
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
        error = trial.result
        return error is None, error or 0.0, trial.number

    return sorted(trials, key=key)


def _shaded(by_error: Sequence[TrialRecord]) -> list[tuple[str, list[TrialRecord]]]:
    """Equal parts by rank of error, since errors crowd at the low end; trials without a result are `bad`."""
    known = sum(trial.result is not None for trial in by_error)
    names = [f"shade{index * SHADES // known}" if index < known else "bad" for index in range(len(by_error))]
    pairs = groupby(zip(names, by_error, strict=True), key=lambda pair: pair[0])
    return [(name, [trial for _, trial in members]) for name, members in pairs]


def _parameter_axis(by_error: Sequence[TrialRecord], path: str) -> Axis:
    values = {trial.number: trial.params.get(path) for trial in by_error}
    distinct = sorted({value for value in values.values() if value is not None}, key=wording.sort_key)
    numeric = all(wording.sort_key(value)[0] == 0 for value in distinct)
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
        ticks.append((below + width / 2, escape(formatting.shown(slot))))
        below += width
    return heights, ticks


def _error_axis(by_error: Sequence[TrialRecord], images: int) -> Axis:
    heights, ticks = _range_axis({trial.number: trial.result for trial in by_error}, absent_on_top=True)
    return heights, [(height, text if text == formatting.ABSENT else f"{text} %") for height, text in ticks]


def _range_axis(values: dict[int, float | None], absent_on_top: bool) -> Axis:
    """Numbers by size, logarithmic over more than a decade; missing values spread over a stretch of their own."""
    known = {number: value for number, value in values.items() if value is not None}
    absent = [number for number, value in values.items() if value is None]
    room = 0.1 + 0.4 * len(absent) / len(values) if absent else 0.0
    offset = 0.0 if absent_on_top else room
    centre = 1 - 0.4 * room if absent_on_top else 0.4 * room
    heights, ticks = _spread(absent, centre, 0.34 * room), [(centre, formatting.ABSENT)] if absent else []
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


AXES = {
    Objective.MACS: "multiply-accumulates of one image",
    Objective.PARAMS: "parameters",
    Objective.IMAGES_PER_S: "images trained in a second",
    Objective.SECONDS: "seconds of training",
}
LOOKS = (
    (TrialState.PRUNED, "stopped early", "circle-open", "@faint"),
    (TrialState.COMPLETE, "complete", "circle", "@line"),
)


def objectives(summary: StudySummary) -> tuple[Objective, ...]:
    """What the plots show beside the error: the study's other objectives, or else multiply-accumulates."""
    return summary.objectives[1:] or (Objective.MACS,)


def note(summary: StudySummary) -> str:
    """What the plots mark, in a sentence."""
    sought = summary.objectives
    if len(sought) < 2:
        return "The line joins the complete trials that no other beats in both."
    marked = "The line joins" if len(sought) == 2 else "Orange are"
    return f"{marked} the complete trials of the Pareto front: no other beats them in {wording.together(sought)}."


def cost(summary: StudySummary, trials: Sequence[TrialRecord], objective: Objective) -> Figure | None:
    """Error against one other objective, in orange the Pareto front; None where no trial has both."""
    costed = [trial for trial in Trials(trials).ranked() if trial.objective(objective) is not None]
    if not costed:
        return None
    traces: list[dict[str, Any]] = []
    for state, name, symbol, colour in LOOKS:
        members = [trial for trial in costed if trial.state is state]
        if members:
            marker = {"color": colour, "symbol": symbol, "size": 9}
            traces.append({**_scatter(summary, members, objective), "mode": "markers", "name": name, "marker": marker})
    sought = summary.objectives if len(summary.objectives) > 1 else (Objective.VAL_ERROR, objective)
    best = sorted(Trials(costed).front(sought), key=lambda trial: trial.objective(objective) or 0.0)
    if best:
        # Of two objectives the front is a flight of steps; of more, a cloud in each plane.
        shape = "vh" if objective is Objective.IMAGES_PER_S else "hv"
        look = {"mode": "lines+markers", "line": {"color": "@accent", "width": 2, "shape": shape}}
        dots = _scatter(summary, best, objective) | (look if len(sought) == 2 else {"mode": "markers"})
        traces.append({**dots, "name": "Pareto front", "marker": {"color": "@accent", "size": 10}})
    values = [trial.objective(objective) or 0.0 for trial in costed]
    errors = [error for trial in costed if (error := trial.measured) is not None]
    x_axis = {"title": {"text": AXES.get(objective, objective.value)}, "type": scale(values)}
    return {
        "data": traces,
        "layout": {"xaxis": x_axis, "yaxis": error_axis(errors, "validation error"), "height": 420},
    }


def _scatter(summary: StudySummary, trials: Sequence[TrialRecord], objective: Objective) -> dict[str, Any]:
    """The objective and the error of trials as the points of one trace."""
    images = wording.validation_images(summary)
    return {
        "type": "scatter",
        "x": [trial.objective(objective) for trial in trials],
        "y": [trial.measured for trial in trials],
        "text": [f"{label(summary, t)}<br>{wording.objective(t, objective, images)}" for t in trials],
        "customdata": [trial.number for trial in trials],
        "hovertemplate": "%{text}<extra></extra>",
    }
