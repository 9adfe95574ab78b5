"""The report's plots of the error against each other objective, with the trials that no other beats."""

from collections.abc import Sequence
from typing import Any

from search import report_facts as facts
from search import report_words as words
from search.pareto import front, objective_value
from search.records import StudySummary, TrialRecord, TrialState
from search.report_plots import Figure, error_axis, label, scale
from search.study_sections import Objective

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
    return f"{marked} the complete trials of the Pareto front: no other beats them in {words.together(sought)}."


def cost(summary: StudySummary, trials: Sequence[TrialRecord], objective: Objective) -> Figure | None:
    """Error against one other objective, in orange the Pareto front; None where no trial has both."""
    costed = [trial for trial in facts.ranked(trials) if objective_value(trial, objective) is not None]
    if not costed:
        return None
    traces: list[dict[str, Any]] = []
    for state, name, symbol, colour in LOOKS:
        members = [trial for trial in costed if trial.state is state]
        if members:
            marker = {"color": colour, "symbol": symbol, "size": 9}
            traces.append({**_scatter(summary, members, objective), "mode": "markers", "name": name, "marker": marker})
    sought = summary.objectives if len(summary.objectives) > 1 else (Objective.VAL_ERROR, objective)
    best = front(costed, sought)
    if best:
        best.sort(key=lambda trial: objective_value(trial, objective) or 0.0)
        # Of two objectives the front is a flight of steps; of more, a cloud in each plane.
        shape = "vh" if objective is Objective.IMAGES_PER_S else "hv"
        look = {"mode": "lines+markers", "line": {"color": "@accent", "width": 2, "shape": shape}}
        dots = _scatter(summary, best, objective) | (look if len(sought) == 2 else {"mode": "markers"})
        traces.append({**dots, "name": "Pareto front", "marker": {"color": "@accent", "size": 10}})
    values = [objective_value(trial, objective) or 0.0 for trial in costed]
    errors = [error for trial in costed if (error := facts.measured(trial)) is not None]
    x_axis = {"title": {"text": AXES.get(objective, objective.value)}, "type": scale(values)}
    return {
        "data": traces,
        "layout": {"xaxis": x_axis, "yaxis": error_axis(errors, "validation error"), "height": 420},
    }


def _scatter(summary: StudySummary, trials: Sequence[TrialRecord], objective: Objective) -> dict[str, Any]:
    """The objective and the error of trials as the points of one trace."""
    images = words.validation_images(summary)
    return {
        "type": "scatter",
        "x": [objective_value(trial, objective) for trial in trials],
        "y": [facts.measured(trial) for trial in trials],
        "text": [f"{label(summary, t)}<br>{words.objective(t, objective, images)}" for t in trials],
        "customdata": [trial.number for trial in trials],
        "hovertemplate": "%{text}<extra></extra>",
    }
