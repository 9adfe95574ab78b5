"""The report's figures as plain Plotly JSON; colours are `@names` that the page replaces by its light or dark ones."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from search import report_facts as facts
from search import report_words as words
from search.records import StudySummary, TrialRecord, TrialState
from search.report_words import validation_images

Figure = dict[str, Any]
DECADE = 10  # positive values that span more than this factor are drawn on a logarithmic axis
MAX_CATEGORIES = 8  # up to so many values of a parameter can be compared side by side


def label(summary: StudySummary, trial: TrialRecord) -> str:
    """Hover text of a trial; user's strings are escaped, as Plotly reads tags."""
    error = words.percent(facts.measured(trial), validation_images(summary))
    head = f"<b>trial {trial.number}</b> · {escape(words.network(trial.params))}"
    return f"{head}<br>{error} after {words.plural(trial.epochs, 'epoch')} · {trial.state.value}"


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
    with_curve = [trial for trial in trials if facts.lowest(trial) is not None]
    if not with_curve:
        return None
    chosen = facts.best(trials)
    images = validation_images(summary)

    def points(trial: TrialRecord) -> list[tuple[float, float, str]]:
        name = label(summary, trial)
        line = sorted(facts.finite_curve(trial).items())
        return [(epoch, y, f"{name}<br>epoch {epoch}: {words.percent(y, images)}") for epoch, y in line]

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
    errors = [error for trial in with_curve for error in facts.finite_curve(trial).values()]
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
    names = words.headings([path for path, _ in rising])
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
