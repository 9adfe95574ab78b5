"""report.html, one file that opens offline, and report.md."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from search import formatting
from search.formatting import literal, table
from search.records import StudySummary, TrialRecord, Trials
from search.report import answer, published, tables, wording
from search.report.answer import (
    HEADLINES,
    beyond_limits,
    caveats,
    effects_basis,
    facts_of_study,
    importance_basis,
    lost,
    not_finished,
    of_finals,
    reasons,
    sentence,
    settings,
    trial_table,
)
from search.report.effects import LEVEL, basis, contrasts, effects
from search.report.figures import Figure, note
from search.report.finals import name, running, standings
from search.report.published import html
from search.report.tables import finalist_table
from search.report.wording import unbeaten

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
    caveats = "".join(f"<li>{escape(line)}</li>" for line in answer.caveats(summary, trials))
    trust = f"<h3>How far to trust it</h3><ul>{caveats}</ul>" if caveats else ""
    more = "".join(f'<p class="more">{escape(line)}</p>' for line in answer.of_finals(summary, trials))
    return (
        f'<p class="sentence">{escape(answer.sentence(summary, trials))}</p>'
        f"<p>{escape(answer.settings(summary, trials))}</p>{more}"
        f'<dl class="tiles">{"".join(_tile(name, value) for name, value in _tiles(summary, trials))}</dl>{trust}'
    )


def _tiles(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    """The figures of the chosen network first, then those of the study."""
    chosen, found = Trials(trials).best, Trials(trials).counts()
    finals = summary.finals
    best = None if finals is None or running(summary) else standings(finals)[0]
    tiles: list[tuple[str, str]] = []
    if best is not None:
        tiles = [("test error", wording.error(best)), ("seeds", str(len(best.errors)))]
        tiles.append(("parameters", formatting.magnitude(best.finalist.params_count)))
        tiles.append(("MACs", formatting.magnitude(best.finalist.macs)))
    elif chosen is not None:
        error = formatting.percent(chosen.measured, wording.validation_images(summary))
        tiles = [("validation error", error), ("parameters", formatting.magnitude(chosen.params_count))]
        tiles.append(("MACs", formatting.magnitude(chosen.macs)))
    if finals is None or not finals.compared:
        tiles.append(("complete trials", f"{found['complete']} of {sum(found.values())}"))
    return [*tiles, ("wall time", formatting.duration(summary.elapsed_seconds)), *answer.cost_tile(summary, trials)]


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
    space = [("space", "The space", "", f'<div class="scroll">{tables.pairs(summary.space.items())}</div>')]
    study = f'<div class="scroll">{tables.pairs(answer.facts_of_study(summary, trials))}</div>'
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
    table = f'<div class="scroll">{tables.finalists_table(summary, finals)}</div>'
    lost = "".join(f"<li>{escape(line)}</li>" for line in answer.lost(finals))
    note = (
        f"Each trained on {finals.trained_on:,} images with several seeds, and tested once on {finals.tested_on:,}."
        " Mean ± standard deviation; the interval is Student's, of the mean over seeds. P(better): that its mean is"
        " below the first one's."
    )
    title = "Compared" if finals.compared else "Finalists"
    plots = _beside(_plot("finals-errors", figures), _plot("finals-curves", figures))
    published = f'<div class="scroll">{html(summary)}</div>' if finals.compared else ""
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
    table = f'<div class="scroll tall">{tables.trials_table(summary, trials)}</div>'
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
            answer.effects_basis(summary, 100 * LEVEL) if effects else "",
            effects,
        ),
        (
            "spread",
            "Every trial by its choices",
            f"Each dot a trial at epoch {summary.first_rung}, before any could be stopped; the bar is the median."
            " The other parameters differ too.",
            dots and f'<div class="effects">{dots}</div>',
        ),
        ("mattered", "What mattered", answer.importance_basis(summary, trials), _plot("importance", figures)),
        ("cost", "Cost against error", note(summary), costs),
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
    groups, never = answer.not_finished(trials), answer.beyond_limits(summary, refused)
    parts = [f"<p>{escape(never)}</p>"] if never else []
    if not groups:
        return "".join([*parts, "<p>Every trial ran to its last epoch.</p>"])
    for state, found in groups.items():
        reasons = "".join(f"<li>{escape(reason)} ({number})</li>" for reason, number in answer.reasons(found))
        numbers = ", ".join(str(trial.number) for trial in found)
        parts.append(
            f'<div><h3><span class="state {state.value}">{len(found)}</span> {answer.HEADLINES[state]}</h3>'
            f"<ul>{reasons}</ul><p class='minor'>{'Trial' if len(found) == 1 else 'Trials'} {numbers}</p></div>"
        )
    return f'<div class="groups">{"".join(parts)}</div>'


def markdown(
    summary: StudySummary,
    trials: Sequence[TrialRecord],
    importance: dict[str, float],
    refused: Sequence[TrialRecord] = (),
) -> str:
    """The whole of report.md; `refused` are the proposals beyond the limits, which `trials` does not hold."""
    found = unbeaten(summary, trials)
    parts = [f"# Study {summary.name}", summary.description, f"**{sentence(summary, trials)}**"]
    parts += [settings(summary, trials), *of_finals(summary, trials)]
    parts += ["\n".join(f"- {line}" for line in caveats(summary, trials)), *_finals_part(summary)]
    if found:
        parts += [f"## Not beaten in {wording.together(summary.objectives)}", *trial_table(summary, trials, found)]
    parts += ["## Trials by validation error", *trial_table(summary, trials)] if trials else []
    parts += [*_ended_early(summary, trials, refused), *_effects(summary, trials)]
    if importance:
        rows = sorted(importance.items(), key=lambda item: -item[1])
        parts += ["## What mattered", importance_basis(summary, trials)]
        parts.append(table(("parameter", "importance"), [(k, f"{v:.2f}") for k, v in rows], numeric=("importance",)))
    if summary.space:
        parts += ["## The space", table(("parameter", "searched over"), summary.space.items())]
    parts += ["## The study", table(("what", "value"), facts_of_study(summary, trials))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _finals_part(summary: StudySummary) -> list[str]:
    finals = summary.finals
    if finals is None:
        return []
    level = f"{100 * finals.level:g} %"
    parts = ["## Compared" if finals.compared else "## Finalists", finalist_table(finals)]
    parts += ["\n".join(f"- {literal(line)}" for line in lost(finals))]
    if finals.compared:
        parts += ["## Published beside ours", published.markdown(summary)]
    found = contrasts(finals)
    if found:
        rows = [
            (
                formatting.headings([c.path])[c.path],
                name(finals, c.one),
                name(finals, c.other),
                f"{c.difference.mean:+.2f}",
                f"{c.difference.low:+.2f} to {c.difference.high:+.2f}",
                f"{c.seeds[0]} + {c.seeds[1]}",
            )
            for c in found
        ]
        head = ("parameter", "finalist", "against", "points of test error", f"{level} interval", "seeds")
        parts += ["### One choice at a time", table(head, rows, numeric=head[3:])]
    return parts


def _effects(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    found = effects(summary, trials)
    if not found:
        return []
    head = ("parameter", "value", "in place of", "error, times", "interval", "from")
    rows = [(e.path, e.value, e.reference, f"{e.ratio:.2f}", f"{e.low:.2f} to {e.high:.2f}", basis(e)) for e in found]
    return ["## What one choice changes", effects_basis(summary, 100 * LEVEL), table(head, rows, numeric=head[3:5])]


def _ended_early(summary: StudySummary, trials: Sequence[TrialRecord], refused: Sequence[TrialRecord]) -> list[str]:
    groups, never = not_finished(trials), beyond_limits(summary, refused)
    if not groups and not never:
        return []
    images = wording.validation_images(summary)
    parts = ["## What did not run to the end, and why", never or ""]
    for state, found in groups.items():
        counted = reasons(found)
        # Reasons that no two trials share are in the table alone.
        summed = "; ".join(f"{number} x {literal(reason)}" for reason, number in counted)
        why = f": {summed}" if len(counted) < len(found) or len(found) == 1 else ""
        parts.append(f"{formatting.plural(len(found), 'trial')} {HEADLINES[state]}{why}.")
        rows = [
            (
                str(trial.number),
                formatting.network(trial.params),
                str(trial.epochs),
                formatting.percent(trial.measured, images),
                trial.reason or "",
            )
            for trial in found
        ]
        head = ("trial", "network", "epochs", "val error", "reason")
        parts.append(table(head, rows, numeric=("trial", "epochs", "val error")))
    return parts
