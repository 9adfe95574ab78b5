"""report.html: one file that opens offline, with the plots, the tables and nothing fetched from anywhere."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from search import report_cost, report_html_tables, report_table
from search import report_ended as ended
from search import report_facts as facts
from search import report_finals as finals_of
from search import report_finals_text as finals_text
from search import report_text as text
from search import report_words as words
from search.records import StudySummary, TrialRecord
from search.report_effects import LEVEL
from search.report_plots import Figure

ASSETS = Path(__file__).parent / "assets"
LINKS = {
    "finals": "Finalists",
    "published": "Published",
    "tested": "Test errors",
    "contrasts": "One choice",
    "trials": "Trials",
    "learning": "Learning curves",
    "together": "All at once",
    "choices": "Choices",
    "spread": "Every trial",
    "mattered": "Importance",
    "cost": "Cost",
    "ended": "Not finished",
    "space": "Space",
    "study": "Study",
}  # of the page's sections


def page(
    summary: StudySummary,
    trials: Sequence[TrialRecord],
    figures: Mapping[str, Figure],
    importance: dict[str, float],
    refused: Sequence[TrialRecord] = (),
) -> str:
    """The whole page; every string of the study is escaped. `refused` are the proposals beyond the limits."""
    sections = _sections(summary, trials, figures, importance, refused)
    return Template(_asset("report.html")).substitute(
        title=escape(summary.name),
        description=escape(summary.description),
        style=_asset("report.css"),
        links="".join(f'<a href="#{name}">{escape(LINKS[name])}</a>' for name, *_ in sections),
        answer=_answer(summary, trials),
        sections="".join(_section(*section) for section in sections),
        plotly=get_plotlyjs(),
        figures=json.dumps(figures, allow_nan=False).replace("<", "\\u003c"),  # no string may end the script element
        script=_asset("report.js"),
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _answer(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    caveats = "".join(f"<li>{escape(line)}</li>" for line in text.caveats(summary, trials))
    trust = f"<h3>How far to trust it</h3><ul>{caveats}</ul>" if caveats else ""
    more = "".join(f'<p class="more">{escape(line)}</p>' for line in text.of_finals(summary, trials))
    return (
        f'<p class="sentence">{escape(text.sentence(summary, trials))}</p>'
        f"<p>{escape(text.settings(summary, trials))}</p>{more}"
        f'<dl class="tiles">{"".join(_tile(name, value) for name, value in _tiles(summary, trials))}</dl>{trust}'
    )


def _tiles(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    """The figures of the chosen network first, then those of the study."""
    chosen, found = facts.best(trials), facts.counts(trials)
    finals = summary.finals
    best = None if finals is None or finals_of.running(summary) else finals_of.standings(finals)[0]
    tiles: list[tuple[str, str]] = []
    if best is not None:
        tiles = [("test error", finals_text.error(best)), ("seeds", str(len(best.errors)))]
        tiles.append(("parameters", words.magnitude(best.finalist.params_count)))
        tiles.append(("MACs", words.magnitude(best.finalist.macs)))
    elif chosen is not None:
        error = words.percent(facts.measured(chosen), words.validation_images(summary))
        tiles = [("validation error", error), ("parameters", words.magnitude(chosen.params_count))]
        tiles.append(("MACs", words.magnitude(chosen.macs)))
    if finals is None or not finals.compared:
        tiles.append(("complete trials", f"{found['complete']} of {sum(found.values())}"))
    return [*tiles, ("wall time", words.duration(summary.elapsed_seconds)), *text.cost_tile(summary, trials)]


def _tile(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


Section = tuple[str, str, str, str]  # its id, title, note, and body as HTML


def _sections(
    summary: StudySummary,
    trials: Sequence[TrialRecord],
    figures: Mapping[str, Figure],
    importance: dict[str, float],
    refused: Sequence[TrialRecord],
) -> list[Section]:
    """In the order of the questions: what was tested, what was tried, what mattered, at what cost, on what."""
    compared = summary.finals is not None and summary.finals.compared
    searched = [] if compared and not trials else _searched(summary, trials, figures, importance, refused)
    space = [("space", "The space", "", f'<div class="scroll">{report_html_tables.pairs(summary.space.items())}</div>')]
    study = f'<div class="scroll">{report_html_tables.pairs(text.facts_of_study(summary, trials))}</div>'
    found = [
        *_finals(summary, figures),
        *searched,
        *(space if summary.space else []),
        ("study", "The study", "", study),
    ]
    return [section for section in found if section[3]]


def _finals(summary: StudySummary, figures: Mapping[str, Figure]) -> list[Section]:
    finals = summary.finals
    if finals is None:
        return []
    level = f"{100 * finals.level:g} %"
    table = f'<div class="scroll">{report_html_tables.finalists_table(summary, finals)}</div>'
    lost = "".join(f"<li>{escape(line)}</li>" for line in finals_text.lost(finals))
    note = (
        f"Each trained on {finals.trained_on:,} images with several seeds, and tested once on {finals.tested_on:,}."
        " Mean ± standard deviation; the interval is Student's, of the mean over seeds. P(better): that its mean is"
        " below the first one's."
    )
    title = "Compared" if finals.compared else "Finalists"
    plots = _beside(_plot("finals-errors", figures), _plot("finals-curves", figures))
    published = f'<div class="scroll">{report_table.html(summary)}</div>' if finals.compared else ""
    return [
        ("finals", title, note, table + (f'<ul class="lost">{lost}</ul>' if lost else "")),
        ("published", "Published beside ours", "", published),
        (
            "tested",
            "Test errors and training",
            f"Every seed, the mean and its {level} interval; and the training error, its mean over seeds in a band from"
            " the lowest to the highest seed.",
            plots,
        ),
        (
            "contrasts",
            "One choice at a time",
            f"Finalists alike in all else but one parameter: difference of mean test error, Welch's {level} interval.",
            _plot("finals-contrasts", figures),
        ),
    ]


def _searched(
    summary: StudySummary,
    trials: Sequence[TrialRecord],
    figures: Mapping[str, Figure],
    importance: dict[str, float],
    refused: Sequence[TrialRecord],
) -> list[Section]:
    dots = "".join(_plot(name, figures) for name in figures if name.startswith("effect-"))
    costs = "".join(_plot(name, figures) for name in figures if name.startswith("cost-"))
    table = f'<div class="scroll tall">{report_html_tables.trials_table(summary, trials)}</div>'
    told = "By validation error, complete trials first. Press a heading to sort."
    effects = _plot("effects", figures)
    return [
        ("trials", "Trials", told, table),
        (
            "learning",
            "Learning curves of the search",
            "Every trial that ended an epoch. Point at a line to see it everywhere.",
            _plot("curves", figures),
        ),
        (
            "together",
            "All trials at once",
            "One line a trial, stronger for a lower error at its last epoch; the best in orange, trials without a"
            " result in red. Stopped trials were trained for fewer epochs.",
            _plot("parallel", figures),
        ),
        (
            "choices",
            "What one choice changes",
            text.effects_basis(summary, 100 * LEVEL) if effects else "",
            effects,
        ),
        (
            "spread",
            "Every trial by its choices",
            f"Each dot a trial at epoch {summary.first_rung}, before any could be stopped; the bar is the median."
            " The other parameters differ too.",
            dots and f'<div class="effects">{dots}</div>',
        ),
        ("mattered", "What mattered", text.importance_basis(summary, trials), _plot("importance", figures)),
        ("cost", "Cost against error", report_cost.note(summary), costs),
        ("ended", "What did not run to the end, and why", "", _ended(summary, trials, refused)),
    ]


def _section(name: str, title: str, note: str, body: str) -> str:
    told = f"<p>{escape(note)}</p>" if note else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{told}{body}</section>'


def _plot(name: str, figures: Mapping[str, Figure]) -> str:
    if name not in figures:
        return ""
    return f'<div class="scroll"><div class="plot" id="{escape(name)}"></div></div>'


def _beside(*plots: str) -> str:
    found = [plot for plot in plots if plot]
    return f'<div class="beside">{"".join(found)}</div>' if found else ""


def _ended(summary: StudySummary, trials: Sequence[TrialRecord], refused: Sequence[TrialRecord]) -> str:
    groups, never = ended.not_finished(trials), ended.beyond_limits(summary, refused)
    parts = [f"<p>{escape(never)}</p>"] if never else []
    if not groups:
        return "".join([*parts, "<p>Every trial ran to its last epoch.</p>"])
    for state, found in groups.items():
        reasons = "".join(f"<li>{escape(reason)} ({number})</li>" for reason, number in ended.reasons(found))
        numbers = ", ".join(str(trial.number) for trial in found)
        parts.append(
            f'<div><h3><span class="state {state.value}">{len(found)}</span> {ended.HEADLINES[state]}</h3>'
            f"<ul>{reasons}</ul><p class='minor'>{'Trial' if len(found) == 1 else 'Trials'} {numbers}</p></div>"
        )
    return f'<div class="groups">{"".join(parts)}</div>'
