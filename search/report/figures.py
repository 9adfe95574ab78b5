"""The report's figures of the search. Colours are names of the page's style sheet, `var(--accent)`, light or dark.

Parallel coordinates are drawn with Plotly's scatter and not its `parcoords`, which needs WebGL, hides lines behind each
other and drops a line with a missing value.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import groupby
from math import ceil, floor, log10
from statistics import median
from typing import Any

import plotly.graph_objects as go

from search import formatting
from search.records import TrialRecord, Trials, TrialState
from search.report import wording
from search.report.analysis import Analysis
from search.report.effects import FEW_VALUES, LEVEL, Effect, by_value, effect_paths
from search.spec import Objective

HOVER = "%{text}<extra></extra>"  # of traces that have a text for each point
_AXIS = {
    "gridcolor": "var(--grid)",
    "linecolor": "var(--axis)",
    "tickcolor": "var(--axis)",
    "zeroline": False,
    "automargin": True,
}
TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "var(--card)",
        "plot_bgcolor": "var(--card)",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--muted)", "activecolor": "var(--ink)"},
        "font": {
            "family": 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif',
            "size": 12.5,
            "color": "var(--ink)",
        },
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": "var(--card)",
            "bordercolor": "var(--axis)",
            "font": {"color": "var(--ink)"},
            "align": "left",
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 56, "r": 14, "t": 16, "b": 44},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    },
)


def figure(traces: Sequence[Any], height: int, **layout: Any) -> go.Figure:
    """A figure in the page's look; `meta` of the layout tells the page's script what Plotly has no word for."""
    return go.Figure(traces, go.Layout(template=TEMPLATE, height=height, **layout))


def label(of: Analysis, trial: TrialRecord) -> str:
    """Hover text of a trial; user's strings are escaped, as Plotly reads tags."""
    error = formatting.percent(trial.measured, of.images)
    head = f"<b>trial {trial.number}</b> · {escape(formatting.network(trial.params))}"
    return f"{head}<br>{error} after {formatting.plural(trial.epochs, 'epoch')} · {trial.state.value}"


def scale(values: Sequence[float]) -> str:
    """`log` where positive values span more than a decade, else `linear`."""
    return "log" if values and min(values) > 0 and max(values) > 10 * min(values) else "linear"


def error_axis(errors: Sequence[float], title: str) -> dict[str, Any]:
    """A y axis in percent."""
    if scale(errors) == "linear":
        return {"title": {"text": title}, "rangemode": "tozero", "ticksuffix": " %"}
    ticks = [digit * 10.0**power for power in range(-3, 2) for digit in (1, 2, 5)] + [100.0]
    return {"title": {"text": title}, "type": "log", "tickvals": ticks, "ticktext": [f"{tick:g} %" for tick in ticks]}


def epoch_axis(epochs: int) -> dict[str, Any]:
    """An x axis of epochs from 1."""
    return {"title": {"text": "epoch"}, "range": [0.5, epochs + 0.5], "tickformat": "d"}


Points = Callable[[TrialRecord], Sequence[tuple[float, float, str]]]  # x, y, hover text


def lines(name: str, trials: Sequence[TrialRecord], points: Points, colour: str, width: float) -> go.Scatter:
    """One trace of a line for each trial, with a gap after each, and markers, so that one point is seen too."""
    gap = (None, None, None, None)
    found = [row for t in trials for row in (*((x, y, text, t.number) for x, y, text in points(t)), gap)]
    x, y, text, customdata = zip(*found, strict=True) if found else ((), (), (), ())
    return line(name, colour, width, x=x, y=y, text=text, customdata=customdata, hovertemplate=HOVER)


def line(name: str, colour: str, width: float, **more: Any) -> go.Scatter:
    """A trace of lines with small markers; `colour` is a name of the style sheet."""
    look = {"mode": "lines+markers", "line": {"color": f"var(--{colour})", "width": width}, "connectgaps": False}
    return go.Scatter(name=name, marker={"color": f"var(--{colour})", "size": width + 2.5}, **look | more)


def focus() -> go.Scatter:
    """An empty trace that the page fills with the trial under the pointer."""
    return line("focus", "ink", 2.5, x=[], y=[], showlegend=False, hoverinfo="skip")


def curves(of: Analysis) -> go.Figure | None:
    """Validation error by epoch, every trial that ended one; the best one on top."""
    with_curve = [trial for trial in of.trials if trial.lowest is not None]
    if not with_curve:
        return None

    def points(trial: TrialRecord) -> list[tuple[float, float, str]]:
        name = label(of, trial)
        found = sorted(trial.finite_curve.items())
        return [(epoch, y, f"{name}<br>epoch {epoch}: {formatting.percent(y, of.images)}") for epoch, y in found]

    groups = (
        ("stopped early", [TrialState.PRUNED], "faint", 1.2),
        ("failed or diverged", [TrialState.FAILED, TrialState.DIVERGED, TrialState.INFEASIBLE], "bad", 1.2),
        ("running", [TrialState.RUNNING], "muted", 1.2),
        ("complete", [TrialState.COMPLETE], "line", 1.6),
    )
    traces: list[go.Scatter] = []
    for name, states, colour, width in groups:
        members = [t for t in with_curve if t.state in states and t is not of.chosen]
        traces += [lines(name, members, points, colour, width)] if members else []
    traces += [lines(_chosen(of, of.chosen), [of.chosen], points, "accent", 3)] if of.chosen else []
    errors = [error for trial in with_curve for error in trial.finite_curve.values()]
    axes = {"xaxis": epoch_axis(of.summary.epochs), "yaxis": error_axis(errors, of.validated)}
    return figure([*traces, focus()], 420, **axes)


def _chosen(of: Analysis, trial: TrialRecord) -> str:
    """`champion: 20-layer v2 identity (trial 10)`; orange stands for this network in every figure."""
    named = f"{formatting.network(trial.params)} (trial {trial.number})"
    return escape(f"{'champion' if of.settled else 'best'}: {named}")


def importances(importance: Mapping[str, float]) -> go.Figure | None:
    """A bar for each parameter, the largest on top."""
    if not importance:
        return None
    rising = sorted(importance.items(), key=lambda item: item[1])
    names, shares = formatting.headings([path for path, _ in rising]), [share for _, share in rising]
    bar = go.Bar(
        orientation="h",
        x=shares,
        y=[escape(names[path]) for path, _ in rising],
        text=[f"{100 * share:.0f} %" for share in shares],
        textposition="outside",
        cliponaxis=False,
        marker_color="var(--line)",
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    x_axis = {"tickformat": ".0%", "range": [0, 1.15 * shares[-1]]}
    return figure([bar], 90 + 30 * len(rising), xaxis=x_axis, yaxis={"showgrid": False})


SHADES = 6  # steps of the page's colour scale, shade0 the best

Axis = tuple[dict[int, float], list[tuple[float, str]]]  # trial number -> height in 0..1; ticks (height, text)


def parallel(of: Analysis) -> go.Figure | None:
    """One line a trial over every parameter that varied and the error; None where nothing varied."""
    paths = wording.varied(of.summary.space, of.trials)
    if not paths:
        return None
    by_error = sorted(of.trials, key=lambda t: (t.result is None, t.result or 0.0, t.number))
    names = formatting.headings(paths)
    axes = {names[path]: _parameter_axis(by_error, path) for path in paths}
    heights, ticks = _range_axis({trial.number: trial.result for trial in by_error}, absent_on_top=True)
    axes[of.validated] = heights, [(y, text if text == formatting.ABSENT else f"{text} %") for y, text in ticks]

    def points(trial: TrialRecord) -> list[tuple[float, float, str]]:
        name = label(of, trial)
        values = [formatting.shown(trial.params.get(path)) for path in paths]
        texts = [f"{name}<br>{escape(names[p])} = {escape(v)}" for p, v in zip(paths, values, strict=True)]
        heights = [heights[trial.number] for heights, _ in axes.values()]
        return [(float(i), y, text) for i, (y, text) in enumerate(zip(heights, [*texts, name], strict=True))]

    traces: list[go.Scatter] = []
    for shade, members in reversed(_shaded(by_error)):
        rest = [trial for trial in members if trial is not of.chosen]
        traces += [lines(shade, rest, points, shade, 1.6)] if rest else []
    traces += [lines("chosen", [of.chosen], points, "accent", 3.2)] if of.chosen else []
    hidden = {"visible": False, "fixedrange": True, "automargin": False}
    notes: list[dict[str, Any]] = []
    for index, (name, (_, ticks)) in enumerate(axes.items()):
        notes.append(_note(index, 1.07, f"<b>{escape(name)}</b>", xanchor="center"))
        notes += [_note(index, height, text, xanchor="left", xshift=4, bgcolor="var(--veil)") for height, text in ticks]
    return figure(
        [*traces, focus()],
        440,
        xaxis={**hidden, "range": [-0.4, len(axes) - 0.45]},
        yaxis={**hidden, "range": [-0.04, 1.12]},
        shapes=[_rule(x0=i, x1=i, y0=0, y1=1, line_width=1) for i in range(len(axes))],
        annotations=notes,
        showlegend=False,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        meta={"minimum_width": 118 * len(axes)},
    )


def _note(x: float, y: float, text: str, **more: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "text": text, "yanchor": "middle", "showarrow": False, "font": {"size": 12}, **more}


def _rule(**ends: Any) -> dict[str, Any]:
    return {"type": "line", "layer": "below", "line_color": "var(--axis)", **ends}


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
    if numeric and len(distinct) > FEW_VALUES:
        return _range_axis({n: None if v is None else float(v) for n, v in values.items()}, absent_on_top=False)
    slots: list[Any] = [*([None] if None in values.values() else []), *distinct]
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


AXES = {
    Objective.MACS: "multiply-accumulates of one image",
    Objective.PARAMS: "parameters",
    Objective.IMAGES_PER_S: "images trained in a second",
    Objective.SECONDS: "seconds of training",
    Objective.LATENCY_MS: "ms until an answer",
}


def cost(of: Analysis, objective: Objective) -> go.Figure | None:
    """Error against one other objective, with the Pareto front; None where no trial has both."""
    costed = [trial for trial in of.trials.ranked() if trial.objective(objective) is not None]
    if not costed:
        return None

    def dots(trials: Sequence[TrialRecord], **look: Any) -> go.Scatter:
        return go.Scatter(
            x=[trial.objective(objective) for trial in trials],
            y=[trial.measured for trial in trials],
            text=[f"{label(of, t)}<br>{wording.objective(t, objective, of.images)}" for t in trials],
            customdata=[trial.number for trial in trials],
            hovertemplate=HOVER,
            **look,
        )

    traces: list[go.Scatter] = []
    for state, name, symbol, colour in (
        (TrialState.PRUNED, "stopped early", "circle-open", "faint"),
        (TrialState.COMPLETE, "complete", "circle", "line"),
    ):
        marker = {"color": f"var(--{colour})", "symbol": symbol, "size": 9}
        members = [trial for trial in costed if trial.state is state]
        traces += [dots(members, mode="markers", name=name, marker=marker)] if members else []
    sought = of.summary.objectives if len(of.summary.objectives) > 1 else (*of.summary.objectives[:1], objective)
    best = sorted(Trials(costed).front(sought), key=lambda trial: trial.objective(objective) or 0.0)
    if best:
        # Of two objectives the front is a flight of steps; of more, a cloud in each plane.
        shape = "vh" if objective is Objective.IMAGES_PER_S else "hv"
        steps = {"mode": "lines+markers", "line": {"color": "var(--third)", "width": 2, "shape": shape}}
        look = steps if len(sought) == 2 else {"mode": "markers"}
        traces.append(dots(best, name="Pareto front", marker={"color": "var(--third)", "size": 10}, **look))
    if of.chosen in costed:
        look = {"mode": "markers", "marker": {"color": "var(--accent)", "size": 12}}
        traces.append(dots([of.chosen], name=_chosen(of, of.chosen), **look))
    values = [trial.objective(objective) or 0.0 for trial in costed]
    errors = [error for trial in costed if (error := trial.measured) is not None]
    x_axis = {"title": {"text": AXES.get(objective, objective.value)}, "type": scale(values)}
    return figure(traces, 420, xaxis=x_axis, yaxis=error_axis(errors, of.validated))


EFFECT_ROW = 27  # pixels
SIDES = {"higher error": "bad", "lower error": "good", "not told apart": "muted"}  # and their colours


def ratios(found: Sequence[Effect]) -> go.Figure | None:
    """How many times as large the error is: an interval for each value, below the parameter's name."""
    if not found:
        return None
    names = formatting.headings([effect.path for effect in found])
    rows: list[tuple[str, Effect | None]] = []  # of the y axis
    for path, members in groupby(found, key=lambda effect: effect.path):
        group = list(members)
        rows.append((f"<b>{escape(names[path])}, against {escape(group[0].reference)}</b>", None))
        rows += [(escape(one.value), one) for one in group]
    traces = [_side(side, colour, rows, names) for side, colour in SIDES.items()]
    x_axis = {"type": "log", "title": {"text": "error, times"}, "tickformat": "~g", "tickprefix": "x ", "tickangle": 0}
    y_axis = {"tickvals": list(range(len(rows))), "ticktext": [name for name, _ in rows], "showgrid": False}
    return figure(
        [trace for trace in traces if trace.x],
        110 + EFFECT_ROW * len(rows),
        xaxis={**x_axis, "nticks": 5},
        yaxis={**y_axis, "range": [len(rows) - 0.5, -0.6]},
        shapes=[_rule(x0=1, x1=1, y0=0, y1=1, yref="paper", line_width=1.5)],
        meta={"rows": True},
    )


def _side(side: str, colour: str, rows: Sequence[tuple[str, Effect | None]], names: dict[str, str]) -> go.Scatter:
    """The intervals on one side of 1, or those that hold it."""
    found = [(place, one) for place, (_, one) in enumerate(rows) if one is not None and _which(one) == side]
    return go.Scatter(
        name=side,
        mode="markers",
        x=[one.ratio for _, one in found],
        y=[place for place, _ in found],
        text=[
            f"<b>{escape(names[one.path])} {escape(one.value)}</b> in place of {escape(one.reference)}<br>error x"
            f" {one.ratio:.2f}, {100 * LEVEL:g} % interval {one.low:.2f} to {one.high:.2f}"
            for _, one in found
        ],
        hovertemplate=HOVER,
        marker={"color": f"var(--{colour})", "size": 9},
        error_x=bars([one.ratio for _, one in found], [(one.low, one.high) for _, one in found], colour, 2),
    )


def bars(middles: Sequence[float], ends: Sequence[tuple[float, float]], colour: str, thickness: float) -> Any:
    """Intervals around points, as Plotly draws them."""
    below = [middle - low for middle, (low, _) in zip(middles, ends, strict=True)]
    above = [high - middle for middle, (_, high) in zip(middles, ends, strict=True)]
    look = {"color": f"var(--{colour})", "thickness": thickness, "width": 0}
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, **look}


def _which(one: Effect) -> str:
    return "higher error" if one.low > 1 else "lower error" if one.high < 1 else "not told apart"


def spreads(of: Analysis) -> dict[str, go.Figure]:
    """Path -> errors at the first rung by value of that parameter: each trial a dot, the median a bar."""
    return {path: _spread_of(of, path) for path in effect_paths(of.summary, of.trials)}


def _spread_of(of: Analysis, path: str) -> go.Figure:
    first = of.summary.first_rung
    groups = by_value(of.trials, path, first)
    dots: list[tuple[float, float, str, int]] = []
    medians: list[tuple[float | None, float | None]] = []
    for index, members in enumerate(groups.values()):
        for place, (trial, error) in enumerate(sorted(members, key=lambda pair: pair[1])):
            x = index + 0.11 * (place % 5 - 2)  # dots of equal error stand side by side
            text = f"{label(of, trial)}<br>at epoch {first}: {formatting.percent(error, of.images)}"
            dots.append((x, error, text, trial.number))
        middle = median([error for _, error in members])
        medians += [(index - 0.32, middle), (index + 0.32, middle), (None, None)]
    x, y, text, customdata = zip(*dots, strict=True)
    across, middles = zip(*medians, strict=True)
    ticks = [f"{escape(value).replace('_', '_<br>')}<br><i>n = {len(members)}</i>" for value, members in groups.items()]
    dot = {"mode": "markers", "marker": {"color": "var(--line)", "size": 7, "opacity": 0.75}, "hovertemplate": HOVER}
    bar = {"color": "var(--ink)", "width": 3}
    x_axis = {"tickvals": list(range(len(groups))), "ticktext": ticks, "range": [-0.6, len(groups) - 0.4]}
    return figure(
        [
            go.Scatter(name="trial", x=x, y=y, text=text, customdata=customdata, **dot),
            go.Scatter(mode="lines", name="median", x=across, y=middles, line=bar, hoverinfo="skip"),
        ],
        320,
        title={"text": f"<b>{escape(formatting.headings([path])[path])}</b>", "font": {"size": 14}},
        xaxis={**x_axis, "showgrid": False, "tickangle": 0},
        yaxis=error_axis(y, f"error at epoch {first}"),
        margin={"t": 40},
        showlegend=False,
    )
