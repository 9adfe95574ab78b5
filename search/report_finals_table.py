"""The finalists of a study as a table: its columns, its cells, and the table in Markdown."""

from search import report_finals as finals_of
from search import report_finals_text as text
from search import report_words as words
from search.markdown_table import table
from search.records import Finals, TrialState
from search.report_finals import Standing

HEAD = ("n", "mean ± std", "interval", "median", "min to max", "P(better)", "training")


def finalist_table(finals: Finals) -> str:
    """Every finalist a row, in Markdown."""
    order = finals_of.standings(finals)
    paths = columns(finals)
    first = "finalist" if finals.compared else "trial"
    rows = [
        (
            "" if s.rank is None else str(s.rank),
            s.finalist.label or str(s.finalist.number),
            *(words.shown(s.finalist.params.get(path)) for path in paths),
            *figures(s),
        )
        for s in order
    ]
    numeric = ("rank", *HEAD, *([] if finals.compared else [first]))
    return table(("rank", first, *words.headings(paths).values(), *HEAD), rows, numeric)


def columns(finals: Finals) -> list[str]:
    """Parameters that a table of finalists shows: depth, version and shortcut, then what tells them apart."""
    every = sorted({path for finalist in finals.finalists for path in finalist.params})
    asked = [path for path in words.ASKED if path in every]

    def values(path: str) -> set[str]:
        return {repr(finalist.params.get(path)) for finalist in finals.finalists}

    return [*asked, *(path for path in every if path not in asked and len(values(path)) > 1)]


def figures(standing: Standing) -> tuple[str, ...]:
    """The cells below `HEAD`."""
    errors = standing.errors
    lost = f" (+{len(standing.lost)} lost)" if standing.lost else ""
    return (
        f"{len(errors)}{lost}",
        text.error(standing),
        text.interval(standing),
        words.points(standing.median),
        f"{words.points(min(errors))} to {words.points(max(errors))}" if errors else words.ABSENT,
        words.probability(standing.lower) if standing.against else "",
        words.duration(standing.seconds or None),
    )


def extent(finals: Finals) -> str:
    """How many trainings of how many finalists, and how they ended."""
    runs = [run for finalist in finals.finalists for run in finalist.runs]
    ends = ", ".join(
        f"{count} {state.value}" for state in TrialState if (count := sum(run.state is state for run in runs))
    )
    return (
        f"{words.plural(len(runs), 'training')} of {words.plural(len(finals.finalists), 'finalist')} ({ends}), seeds"
        f" {finals.seeds} to {finals.most_seeds}; {finals.epochs} epochs each"
    )
