"""The tables of report.html and report.md."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from search import formatting
from search.formatting import table
from search.records import Finals, StudySummary, TrialRecord, Trials, TrialState
from search.report import published, wording
from search.report.finals import Standing, standings
from search.report.wording import finals_columns, unbeaten

HEAD = ("n", "mean ± std", "interval", "median", "min to max", "P(better)", "training")


def finalist_table(finals: Finals) -> str:
    """Every finalist a row, in Markdown."""
    order = standings(finals)
    paths = finals_columns(finals)
    first = "finalist" if finals.compared else "trial"
    rows = [
        (
            "" if s.rank is None else str(s.rank),
            s.finalist.label or str(s.finalist.number),
            *(formatting.shown(s.finalist.params.get(path)) for path in paths),
            *figures(s),
        )
        for s in order
    ]
    numeric = ("rank", *HEAD, *([] if finals.compared else [first]))
    return table(("rank", first, *formatting.headings(paths).values(), *HEAD), rows, numeric)


def figures(standing: Standing) -> tuple[str, ...]:
    """The cells below `HEAD`."""
    errors = standing.errors
    lost = f" (+{len(standing.lost)} lost)" if standing.lost else ""
    return (
        f"{len(errors)}{lost}",
        wording.error(standing),
        wording.interval(standing),
        formatting.points(standing.median),
        f"{formatting.points(min(errors))} to {formatting.points(max(errors))}" if errors else formatting.ABSENT,
        formatting.probability(standing.lower) if standing.against else "",
        formatting.duration(standing.seconds or None),
    )


def trials_table(summary: StudySummary, trials: Sequence[TrialRecord]) -> str:
    """Every trial a row: the ranked ones first, then those without a rank by number."""
    order = Trials(trials).ranked()
    rank = {trial.number: place for place, trial in enumerate(order, start=1)}
    rest = sorted((trial for trial in trials if trial.number not in rank), key=lambda trial: trial.number)
    paths = wording.columns(summary, trials)
    found = unbeaten(summary, trials)
    printed = {trial.number: published.of_params(summary, trial.params) for trial in trials}
    marked = any(printed.values())
    head = ["rank", "trial", "val error", *(["published"] if marked else []), "epochs", "state"]
    head += [*(["front"] if found else []), *formatting.headings(paths).values(), "params", "MACs", "time"]
    worst = max((trial.measured or 0.0 for trial in trials), default=0.0)
    rows = [
        _trial(
            summary,
            trial,
            rank.get(trial.number),
            worst,
            (
                [_figure(printed[trial.number])] if marked else [],
                [_cell("yes" if trial in found else "", int(trial in found))] if found else [],
            ),
            paths,
        )
        for trial in (*order, *rest)
    ]
    return _table("trials", head, rows)


def _trial(
    summary: StudySummary,
    trial: TrialRecord,
    rank: int | None,
    worst: float,
    more: tuple[Sequence[str], Sequence[str]],
    paths: Sequence[str],
) -> str:
    """`more` are cells after the error, and after the state."""
    printed, marks = more
    error = trial.measured
    bar = "" if error is None or not worst else f' style="--part:{100 * error / worst:.1f}%"'
    cells = [
        _cell("" if rank is None else str(rank), rank),
        _cell(str(trial.number), trial.number),
        _cell(formatting.percent(error, wording.validation_images(summary)), error, f' class="bar"{bar}'),
        *printed,
        _cell(f"{trial.epochs} / {summary.epochs}", trial.epochs),
        f'<td><span class="state {trial.state.value}">{_state(trial.state)}</span></td>',
        *marks,
        *(_cell(formatting.shown(trial.params.get(path)), trial.params.get(path)) for path in paths),
        *_costs(trial.params_count, trial.macs, trial.seconds),
    ]
    first = ' class="best"' if rank == 1 else ""
    return f'<tr data-trial="{trial.number}"{first}>{"".join(cells)}</tr>'


def finalists_table(summary: StudySummary, finals: Finals) -> str:
    """Every finalist a row, the champion first."""
    order = standings(finals)
    paths = finals_columns(finals)
    printed = {s.finalist.number: published.of_finalist(summary, finals, s.finalist) for s in order}
    marked = any(printed.values())
    head = ["rank", "finalist" if finals.compared else "trial", "test error", f"{100 * finals.level:g} % interval"]
    head += ["seeds", "median", "min", "max", "P(better)", *(["published"] if marked else [])]
    head += [*formatting.headings(paths).values(), "params", "MACs", "training"]
    rows = [_finalist(finals, s, [_figure(printed[s.finalist.number])] if marked else [], paths) for s in order]
    return _table("finalists", head, rows)


def _finalist(finals: Finals, standing: Standing, printed: Sequence[str], paths: Sequence[str]) -> str:
    finalist, errors = standing.finalist, standing.errors
    lost = f'<span class="state diverged">{len(standing.lost)} lost</span>' if standing.lost else ""
    found = standing.interval
    cells = [
        _cell("" if standing.rank is None else str(standing.rank), standing.rank),
        _cell(finalist.label or str(finalist.number), finalist.label or finalist.number),
        _cell(wording.error(standing), standing.mean),
        _cell(wording.interval(standing), None if found is None else found.low),
        f'<td class="number" data-sort="{len(errors)}">{lost} {len(errors)}</td>',
        _cell(formatting.points(standing.median), standing.median),
        *(
            _cell(formatting.points(end(errors) if errors else None), end(errors) if errors else None)
            for end in (min, max)
        ),
        _cell(formatting.probability(standing.lower) if standing.against else "", standing.lower),
        *printed,
        *(_cell(formatting.shown(finalist.params.get(path)), finalist.params.get(path)) for path in paths),
        *_costs(finalist.params_count, finalist.macs, standing.seconds or None),
    ]
    number = "" if finals.compared else f' data-trial="{finalist.number}"'
    best = ' class="best"' if finalist.number == finals.champion_number else ""
    return f"<tr{number}{best}>{''.join(cells)}</tr>"


def _costs(params: int | None, macs: int | None, seconds: float | None) -> list[str]:
    return [
        _cell(formatting.magnitude(params), params),
        _cell(formatting.magnitude(macs), macs),
        _cell(formatting.duration(seconds), seconds),
    ]


def _figure(found: tuple[Any, ...]) -> str:
    """A published figure; where it is from, and what was done in another way, on pointing at it."""
    if not found:
        return _cell("", None)
    told = escape("\n".join(published.published_sentence(one) for one in found))
    errors = [one.figure.error for one in found if one.figure.error is not None]
    key = f' data-sort="{errors[0]!r}"' if errors else ""
    return f'<td class="number"{key} title="{told}">{escape(published.short(found))}</td>'


def _table(kind: str, head: Sequence[str], rows: Sequence[str]) -> str:
    titles = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in head)
    body = "".join(rows)
    return f'<table class="sortable {kind}"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'


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


def pairs(of: Iterable[tuple[str, str]]) -> str:
    """Names and values."""
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in of)
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'
