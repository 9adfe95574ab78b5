"""Which figures a report has, of the page and of the PNG files."""

from collections.abc import Mapping, Sequence

from search import report_cost, report_effect_plots, report_finals_plots
from search import report_plots as plots
from search.records import StudySummary, TrialRecord
from search.report_contrasts import contrasts
from search.report_effects import effect_paths, effects
from search.report_parallel import parallel
from search.report_plots import Figure


def figures(summary: StudySummary, trials: Sequence[TrialRecord], importance: dict[str, float]) -> dict[str, Figure]:
    """Name -> figure, in the page's order; a figure without anything to show is left out."""
    finals = summary.finals
    made: dict[str, Figure | None] = {}
    if finals is not None:
        made["finals-errors"] = report_finals_plots.errors(summary, finals)
        made["finals-curves"] = report_finals_plots.curves(finals)
        made["finals-contrasts"] = report_effect_plots.points(finals, contrasts(finals))
    made["curves"] = plots.curves(summary, trials)
    made["parallel"] = parallel(summary, trials)
    made["effects"] = report_effect_plots.ratios(effects(summary, trials))
    for path in effect_paths(summary, trials):
        made[f"effect-{path}"] = report_effect_plots.effect(summary, trials, path)
    made["importance"] = plots.importances(importance)
    for objective in report_cost.objectives(summary):
        made[f"cost-{objective}"] = report_cost.cost(summary, trials, objective)
    return {name: figure for name, figure in made.items() if figure is not None}


def pictures(made: Mapping[str, Figure]) -> dict[str, list[Figure]]:
    """Name of a PNG file -> its figures: those of the page that say the most without a pointer."""
    named = {
        "finalists": ["finals-errors"],
        "learning-curves": ["finals-curves", "curves"],
        "effects": ["finals-contrasts", "effects", "importance"],
        "front": [name for name in made if name.startswith("cost-")],
    }
    return {file: found for file, names in named.items() if (found := [made[n] for n in names if n in made])}
