"""report.html: one file that opens offline, with the plots, the tables and nothing fetched from anywhere."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from search import report_cost
from search import report_ended as ended
from search import report_facts as facts
from search import report_plots as plots
from search import report_text as text
from search import report_words as words
from search.records import StudySummary, TrialRecord, TrialState
from search.report_front import unbeaten
from search.report_parallel import parallel

ASSETS = Path(__file__).parent / "assets"


def page(
    summary: StudySummary,
    trials: Sequence[TrialRecord],
    importance: dict[str, float],
    refused: Sequence[TrialRecord] = (),
) -> str:
    """The whole page; every string of the study is escaped. `refused` are the proposals beyond the limits."""
    figures = _figures(summary, trials, importance)
    return Template(_asset("report.html")).substitute(
        title=escape(summary.name),
        description=escape(summary.description),
        style=_asset("report.css"),
        answer=_answer(summary, trials),
        table=_trials(summary, trials),
        plots=_plots(summary, trials, figures),
        ended=_ended(summary, trials, refused),
        space=_pairs(summary.space.items()),
        study=_pairs(text.facts_of_study(summary, trials)),
        plotly=get_plotlyjs(),
        figures=json.dumps(figures, allow_nan=False).replace("<", "\\u003c"),  # no string may end the script element
        script=_asset("report.js"),
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _figures(
    summary: StudySummary, trials: Sequence[TrialRecord], importance: dict[str, float]
) -> dict[str, plots.Figure]:
    """Element id -> figure, in the page's order; a figure without anything to show is left out."""
    paths = plots.effect_paths(summary, trials)
    made: dict[str, plots.Figure | None] = {
        "curves": plots.curves(summary, trials),
        "parallel": parallel(summary, trials),
        **{f"effect-{path}": plots.effect(summary, trials, path) for path in paths},
        "importance": plots.importances(importance),
        **{f"cost-{one}": report_cost.cost(summary, trials, one) for one in report_cost.objectives(summary)},
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def _answer(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    caveats = "".join(f"<li>{escape(line)}</li>" for line in text.caveats(summary, trials))
    trust = f"<h3>How far to trust it</h3><ul>{caveats}</ul>" if caveats else ""
    return (
        f'<p class="sentence">{escape(text.sentence(summary, trials))}</p>'
        f"<p>{escape(text.settings(summary, trials))}</p>"
        f'<dl class="tiles">{"".join(_tile(name, value) for name, value in _tiles(summary, trials))}</dl>{trust}'
    )


def _tiles(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    chosen = facts.best(trials)
    tiles: list[tuple[str, str]] = []
    if chosen is not None:
        error = words.percent(facts.measured(chosen), words.validation_images(summary))
        tiles = [("validation error", error), ("parameters", words.magnitude(chosen.params_count))]
        tiles.append(("MACs of one image", words.magnitude(chosen.macs)))
    found = facts.counts(trials)
    tiles += [("complete trials", str(found["complete"])), ("stopped early", str(found["pruned"]))]
    return [*tiles, ("wall time", words.duration(summary.elapsed_seconds))]


def _tile(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _trials(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """Every trial a row: the ranked ones first, then those without a rank by number."""
    order = facts.ranked(trials)
    rank = {trial.number: place for place, trial in enumerate(order, start=1)}
    rest = sorted((trial for trial in trials if trial.number not in rank), key=lambda trial: trial.number)
    paths = words.columns(summary, trials)
    found = unbeaten(summary, trials)
    head = ["rank", "trial", "val error", "epochs", "state", *(["front"] if found else [])]
    head += [*words.headings(paths).values(), "params", "MACs", "time"]
    worst = max((facts.measured(trial) or 0.0 for trial in trials), default=0.0)
    marks = {trial.number: [_cell("yes" if trial in found else "", int(trial in found))] for trial in trials if found}
    rows = "".join(
        _row(summary, trial, rank.get(trial.number), paths, worst, marks.get(trial.number, []))
        for trial in (*order, *rest)
    )
    titles = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in head)
    return f'<table class="sortable"><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>'


def _row(
    summary: StudySummary,
    trial: TrialRecord,
    rank: int | None,
    paths: Sequence[str],
    worst: float,
    marks: Sequence[str],
) -> str:
    error = facts.measured(trial)
    bar = "" if error is None or not worst else f' style="--part:{100 * error / worst:.1f}%"'
    cells = [
        _cell("" if rank is None else str(rank), rank),
        _cell(str(trial.number), trial.number),
        _cell(words.percent(error, words.validation_images(summary)), error, f' class="bar"{bar}'),
        _cell(f"{trial.epochs} / {summary.epochs}", trial.epochs),
        f'<td><span class="state {trial.state.value}">{_state(trial.state)}</span></td>',
        *marks,
        *(_cell(words.shown(trial.params.get(path)), trial.params.get(path)) for path in paths),
        _cell(words.magnitude(trial.params_count), trial.params_count),
        _cell(words.magnitude(trial.macs), trial.macs),
        _cell(words.duration(trial.seconds), trial.seconds),
    ]
    first = ' class="best"' if rank == 1 else ""
    return f'<tr data-trial="{trial.number}"{first}>{"".join(cells)}</tr>'


def _cell(shown: str, value: object, more: str = "") -> str:
    """`data-sort` holds a number at full precision; a cell without a value has none and sorts last."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None:
        return f'<td class="absent"{more if "class" not in more else ""}>{escape(shown)}</td>'
    if number:
        look = more if "class=" in more else f'{more} class="number"'
        return f'<td data-sort="{value!r}"{look}>{escape(shown)}</td>'
    return f'<td data-sort="{escape(str(value))}"{more}>{escape(shown)}</td>'


def _state(state: TrialState) -> str:
    return "stopped" if state is TrialState.PRUNED else state.value


def _plots(summary: StudySummary, trials: Sequence[TrialRecord], figures: dict[str, plots.Figure]) -> str:
    """Sections in the order of the questions: how did it learn, what goes together, what mattered, at what cost."""
    effects, costs = (
        "".join(_plot(name) for name in figures if name.startswith(kind)) for kind in ("effect-", "cost-")
    )
    sections = [
        ("curves", "Learning curves", "Every trial that ended an epoch. Point at a line to see it everywhere."),
        (
            "parallel",
            "All trials at once",
            "One line a trial, stronger for a lower error at its last epoch; the best in orange, trials without a"
            " result in red. Stopped trials were trained for fewer epochs.",
        ),
        (
            "effects",
            "Effects at equal budget",
            f"Each dot a trial at epoch {summary.first_rung}, before any could be stopped; the bar is the median."
            " The other parameters differ too.",
        ),
        ("importance", "What mattered", text.importance_basis(summary, trials)),
        ("cost", "Cost against error", report_cost.note(summary)),
    ]
    made = {name: _plot(name) for name in figures} | {"cost": costs}
    made |= {"effects": effects and f'<div class="effects">{effects}</div>'}
    return "".join(
        f"<section><h2>{title}</h2><p>{escape(note)}</p>{made[name]}</section>"
        for name, title, note in sections
        if made.get(name)
    )


def _plot(name: str) -> str:
    return f'<div class="scroll"><div class="plot" id="{escape(name)}"></div></div>'


def _ended(summary: StudySummary, trials: Sequence[TrialRecord], refused: Sequence[TrialRecord]) -> str:
    groups, never = ended.not_finished(trials), ended.beyond_limits(summary, refused)
    parts = [f"<p>{escape(never)}</p>"] if never else []
    if not groups:
        return "".join([*parts, "<p>Every trial ran to its last epoch.</p>"])
    for state, found in groups.items():
        reasons = "".join(f"<li>{escape(reason)} ({number})</li>" for reason, number in ended.reasons(found))
        numbers = ", ".join(str(trial.number) for trial in found)
        parts.append(
            f'<h3><span class="state {state.value}">{len(found)}</span> {ended.HEADLINES[state]}</h3>'
            f"<ul>{reasons}</ul><p class='minor'>{'Trial' if len(found) == 1 else 'Trials'} {numbers}</p>"
        )
    return "".join(parts)


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in pairs)
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'
