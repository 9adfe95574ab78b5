"""The tables of a report: each once, with what a page sorts by; Markdown and HTML print the same."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search import formatting
from search.records import Finals, TrialRecord, TrialState
from search.report import published, wording
from search.report.analysis import Analysis, DeviceHours
from search.report.effects import Effect
from search.report.finals import Standing, name
from search.report.published import Comparison
from search.spec import Found, Objective


@dataclass(frozen=True)
class Cell:
    """What is shown, and how."""

    text: str
    value: float | str | None = None  # by which a page sorts; None sorts last
    title: str = ""  # shown on pointing at it
    part: float | None = None  # percent of the cell that a bar behind the text fills
    state: str = ""  # of a trial or training, of which the text is a badge

    @property
    def number(self) -> bool:
        """Whether it is set to the right."""
        return isinstance(self.value, (int, float)) and not isinstance(self.value, bool)


@dataclass(frozen=True)
class Row:
    """The cells of a trial, or of anything else."""

    cells: tuple[Cell, ...]
    trial: int | None = None  # whose lines in the plots stand out when the row is pointed at
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows below headings."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]
    kind: str = ""  # `trials`, `finalists`: a page lets them be sorted

    @cached_property
    def numeric(self) -> list[bool]:
        """Of each column, whether it is set to the right."""
        return [any(row.cells[column].number for row in self.rows) for column in range(len(self.head))]


def plain(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of texts."""
    return Table(tuple(head), tuple(Row(tuple(Cell(text, text) for text in row)) for row in rows))


def _number(value: int | None) -> Cell:
    return Cell("" if value is None else str(value), value)


def _params(paths: Sequence[str]) -> dict[str, Callable[[Mapping[str, Any]], Cell]]:
    """Heading -> the cell of a configuration."""

    def cell(path: str) -> Callable[[Mapping[str, Any]], Cell]:
        return lambda params: Cell(formatting.shown(params.get(path)), params.get(path))

    return {heading: cell(path) for path, heading in formatting.headings(paths).items()}


def _costs(params: int | None, macs: int | None, seconds: float | None) -> list[Cell]:
    return [
        Cell(formatting.magnitude(params), params),
        Cell(formatting.magnitude(macs), macs),
        Cell(formatting.duration(seconds), seconds),
    ]


def _figure(found: Sequence[Found]) -> Cell:
    """Published figures; where they are from, and what was done in another way, on pointing at them."""
    errors = [one.figure.error for one in found if one.figure.error is not None]
    shown = " / ".join(dict.fromkeys(str(one.figure) for one in found))
    return Cell(shown, errors[0] if errors else shown or None, "\n".join(map(published.source, found)))


def trials(of: Analysis, only: Sequence[TrialRecord] | None = None) -> Table | None:
    """Every trial, or `only` those: the ranked ones first, then those without a rank; None where there is none."""
    order = of.trials.ranked()
    rank = {trial.number: place for place, trial in enumerate(order, start=1)}
    every = [*order, *(trial for trial in of.trials if trial.number not in rank)]
    chosen = every if only is None else [trial for trial in order if trial in only]
    printed = {trial.number: published.of_params(of.summary, trial.params) for trial in chosen if only is None}
    worst = max((trial.measured or 0.0 for trial in of.trials), default=0.0)
    params = _params(wording.columns(of.summary, of.trials))
    front = {trial.number for trial in of.front}
    marked, speed = any(printed.values()), Objective.IMAGES_PER_S in of.summary.objectives

    def row(trial: TrialRecord) -> Row:
        error = trial.measured
        part = None if error is None or not worst else 100 * error / worst
        cells = [
            _number(rank.get(trial.number)),
            _number(trial.number),
            Cell(formatting.percent(error, of.images), error, part=part),
            *([_figure(printed[trial.number])] if marked else []),
            Cell(f"{trial.epochs} of {of.summary.epochs}", trial.epochs),
            *([] if only is not None else [Cell(_state(trial.state), trial.state, state=trial.state)]),
            *([Cell("yes" if trial.number in front else "", int(trial.number in front))] if front else []),
            *(cell(trial.params) for cell in params.values()),
            *([Cell(f"{trial.images_per_s or 0:,.0f}", trial.images_per_s)] if speed else []),
            *_costs(trial.params_count, trial.macs, trial.seconds),
        ]
        return Row(tuple(cells), trial.number, rank.get(trial.number) == 1)

    head = ["rank", "trial", "val error", *(["published"] if marked else []), "epochs"]
    head += [*([] if only is not None else ["state"]), *(["front"] if front else []), *params]
    head += [*(["images/s"] if speed else []), "params", "MACs", "time"]
    return Table(tuple(head), tuple(map(row, chosen)), "trials") if chosen else None


def finalists(of: Analysis) -> Table | None:
    """Every finalist, the champion first; None without finals."""
    finals = of.summary.finals
    if finals is None:
        return None
    marked = any(of.published.values())
    params = _params(wording.finals_columns(finals))

    def row(standing: Standing) -> Row:
        one, errors = standing.finalist, standing.errors
        lost = f" (+{len(standing.lost)} lost)" if standing.lost else ""
        found, ends = standing.interval, (standing.median, min(errors, default=None), max(errors, default=None))
        cells = [
            _number(standing.rank),
            Cell(one.label, one.label) if one.label is not None else _number(one.number),
            Cell(standing.error, standing.mean),
            Cell(standing.between, None if found is None else found.low),
            *([_figure(of.published[one.number])] if marked else []),
            *(_compared(finals, of.comparisons.get(one.number)) if of.comparisons else []),
            Cell(f"{len(errors)}{lost}", len(errors)),
            *(Cell(formatting.points(v), v) for v in ends),
            Cell(formatting.probability(standing.lower) if standing.against else "", standing.lower),
            *(cell(one.params) for cell in params.values()),
            *_costs(one.params_count, one.macs, standing.seconds or None),
        ]
        return Row(tuple(cells), None if finals.compared else one.number, one is finals.champion)

    head = ["rank", "finalist" if finals.compared else "trial", "test error", f"{100 * finals.level:g} % interval"]
    head += ["published"] if marked else []
    head += [f"against {finals.finalists[0].label}", "paper"] if of.comparisons else []
    head += ["seeds", "median", "min", "max", "P(better)", *params, "params", "MACs", "training"]
    return Table(tuple(head), tuple(map(row, of.standings)), "finalists")


def _compared(finals: Finals, one: Comparison | None) -> list[Cell]:
    """The difference from the one that a configuration is compared with, and whether a paper has the same order."""
    if one is None:
        return [Cell("reference"), Cell("")]
    found = one.found
    shown = "too few trainings" if found is None else f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
    whom = "" if one.against == finals.finalists[0].label else f", against {one.against}"
    return [Cell(shown + whom, None if found is None else found.mean), Cell(one.order or "", one.order)]


def _state(state: TrialState) -> str:
    return "stopped" if state is TrialState.PRUNED else state.value


def lost(of: Analysis) -> list[str]:
    """The finalists that lost a training, and why, a sentence each."""
    finals = of.summary.finals
    return [_lost(standing, finals) for standing in of.standings if standing.lost and finals]


def _lost(standing: Standing, finals: Finals) -> str:
    runs = ", ".join(
        f"seed {run.seed} {run.state.value}" + (f" ({run.reason})" if run.reason else "") for run in standing.lost
    )
    named = name(finals, standing.finalist)
    return f"{named[:1].upper()}{named[1:]} lost {formatting.plural(len(standing.lost), 'training')}: {runs}."


LIMITS = {
    "params": "params above {:,}",
    "macs": "macs above {:,}",
    "activation_memory": "activation_memory above {:,} bytes",
    "signal": "the gradient cannot reach the first unit",
}


def refused(of: Analysis) -> str | None:
    """How many proposals were refused and why, in a sentence; None where none was."""
    if not of.refused:
        return None
    counted = [(limit, sum(limit in trial.exceeded for trial in of.refused)) for limit in LIMITS]
    parts = [f"{LIMITS[limit].format(of.summary.limits[limit])}: {number}" for limit, number in counted if number]
    why = f" ({'; '.join(parts)})" if parts else ""
    were = "was" if len(of.refused) == 1 else "were"
    return f"{formatting.plural(len(of.refused), 'proposal')} {were} beyond the limits{why} and never trained."


def ended(of: Analysis) -> Table | None:
    """Trials that ended before their last epoch, and why; None where there is none."""
    early = [t for t in of.trials if t.state not in (TrialState.COMPLETE, TrialState.RUNNING)]
    rows = [
        Row(
            (
                _number(trial.number),
                Cell(_state(trial.state), trial.state, state=trial.state),
                Cell(formatting.network(trial.params)),
                _number(trial.epochs),
                Cell(formatting.percent(trial.measured, of.images), trial.measured),
                Cell(trial.reason or ""),
            )
        )
        for trial in early
    ]
    return Table(("trial", "state", "network", "epochs", "val error", "reason"), tuple(rows)) if rows else None


def effects(of: Analysis) -> Table | None:
    """What one choice changes; None where nothing can be told."""
    head = ("parameter", "value", "in place of", "error, times", "interval")
    rows = [
        Row((Cell(e.path), Cell(e.value), Cell(e.reference), Cell(f"{e.ratio:.2f}", e.ratio), Cell(_span(e))))
        for e in of.effects
    ]
    return Table(head, tuple(rows)) if rows else None


def _span(effect: Effect) -> str:
    return f"{effect.low:.2f} to {effect.high:.2f}"


def importance(of: Analysis) -> Table | None:
    """The share of each parameter, the largest first; None where nothing can be told."""
    shares = sorted(of.importance.items(), key=lambda item: -item[1])
    rows = tuple(Row((Cell(path, path), Cell(f"{share:.2f}", share))) for path, share in shares)
    return Table(("parameter", "importance"), rows) if rows else None


def study(of: Analysis) -> Table:
    """Settings and environment."""
    summary = of.summary
    found = ", ".join(f"{number} {state}" for state, number in of.trials.counts().items() if number)
    seconds = sum(trial.seconds or 0.0 for trial in of.trials) + sum(s.seconds for s in of.standings)
    facts: dict[str, str] = {}
    if not of.compares:
        facts["trials"] = f"{len(of.trials)} of {summary.trials}{': ' if found else ''}{found}"
        facts["epochs"] = f"{summary.epochs}, at least {summary.first_rung} before a trial may be stopped"
        facts["objectives"] = formatting.listed([wording.OBJECTIVES[objective] for objective in summary.objectives])
        facts["sampler, scheduler, seed"] = f"{summary.sampler}, {summary.scheduler}, {summary.seed}"
    facts |= {f"limit: {limit}": f"{value:,}" for limit, value in summary.limits.items()}
    facts |= {"finals": _extent(summary.finals)} if summary.finals else {}
    facts["wall time"] = formatting.duration(summary.elapsed_seconds)
    facts["training time"] = formatting.duration(seconds)
    facts |= {"cost": cost(of.cost)} if of.cost else {}
    facts |= {f"data: {key}": _data(key, value) for key, value in summary.data.items()}
    facts["hardware"] = summary.hardware
    facts["versions"] = ", ".join(f"{package} {version}" for package, version in summary.versions.items())
    return plain(("what", "value"), facts.items())


def cost(of: DeviceHours) -> str:
    """`0.083 core-hours: 0.035 in the search, 0.048 in the finals`."""
    parts = f": {wording.hours(of.search)} in the search, {wording.hours(of.finals)} in the finals"
    return f"{wording.hours(of.total)} {of.unit}{parts if of.search and of.finals else ''}"


def _extent(finals: Finals) -> str:
    """How many trainings of how many finalists, and how they ended."""
    runs = [run for finalist in finals.finalists for run in finalist.runs]
    counts = {state: sum(run.state is state for run in runs) for state in TrialState}
    ends = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
    return (
        f"{formatting.plural(len(runs), 'training')} of {formatting.plural(len(finals.finalists), 'finalist')} "
        f"({ends}), seeds {finals.seeds} to {finals.most_seeds}; {finals.epochs} epochs each"
    )


def _data(key: str, value: object) -> str:
    """A value of the data set's description: a shape as `8 x 8 x 1`, class names as their number and the first ten."""
    if not isinstance(value, (list, tuple)):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if key == "shape":
        return " x ".join(map(str, value))
    return f"{len(value)}: {', '.join(map(str, value[:10]))}{', ...' if len(value) > 10 else ''}"
