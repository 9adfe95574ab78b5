"""report.md: the answer, every trial, what did not run to the end, and what was searched."""

from collections.abc import Sequence

from search import report_facts as facts
from search import report_table
from search import report_words as words
from search.markdown_table import literal, table
from search.records import StudySummary, TrialRecord
from search.report_contrasts import contrasts
from search.report_effects import LEVEL, basis, effects
from search.report_ended import HEADLINES, beyond_limits, not_finished, reasons
from search.report_finals import name
from search.report_finals_table import finalist_table
from search.report_finals_text import lost
from search.report_front import unbeaten
from search.report_text import (
    caveats,
    effects_basis,
    facts_of_study,
    importance_basis,
    of_finals,
    sentence,
    settings,
    trial_table,
)


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
    parts += ["\n".join(f"- {line}" for line in caveats(summary, trials)), *_finals(summary)]
    if found:
        parts += [f"## Not beaten in {words.together(summary.objectives)}", *trial_table(summary, trials, found)]
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


def _finals(summary: StudySummary) -> list[str]:
    finals = summary.finals
    if finals is None:
        return []
    level = f"{100 * finals.level:g} %"
    parts = ["## Compared" if finals.compared else "## Finalists", finalist_table(finals)]
    parts += ["\n".join(f"- {literal(line)}" for line in lost(finals))]
    if finals.compared:
        parts += ["## Published beside ours", report_table.markdown(summary)]
    found = contrasts(finals)
    if found:
        rows = [
            (
                words.headings([c.path])[c.path],
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
    images = words.validation_images(summary)
    parts = ["## What did not run to the end, and why", never or ""]
    for state, found in groups.items():
        counted = reasons(found)
        # Reasons that no two trials share are in the table alone.
        summed = "; ".join(f"{number} x {literal(reason)}" for reason, number in counted)
        why = f": {summed}" if len(counted) < len(found) or len(found) == 1 else ""
        parts.append(f"{words.plural(len(found), 'trial')} {HEADLINES[state]}{why}.")
        rows = [
            (
                str(trial.number),
                words.network(trial.params),
                str(trial.epochs),
                words.percent(facts.measured(trial), images),
                trial.reason or "",
            )
            for trial in found
        ]
        head = ("trial", "network", "epochs", "val error", "reason")
        parts.append(table(head, rows, numeric=("trial", "epochs", "val error")))
    return parts
