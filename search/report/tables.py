"""The tables of a report: each once, with what a page sorts by; Markdown and HTML print the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search import formatting
from search.records import Finalist, Finals, TrialRecord, TrialState
from search.report import published, wording
from search.report.analysis import Analysis, DeviceHours
from search.report.finals import OfClass, Standing, name
from search.report.published import Comparison
from search.spec import Found, Objective, Survey
from search.statistics import LEVEL

CONFUSED = 20  # pairs of classes that are named


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

    cells: Mapping[str, Cell]  # by heading
    trial: int | None = None  # whose lines in the plots stand out when the row is pointed at
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows, one at least, below the same headings."""

    rows: Sequence[Row]
    kind: str = ""  # `trials`, `finalists`, `classes`: a page lets them be sorted

    @property
    def head(self) -> list[str]:
        """The headings."""
        return list(self.rows[0].cells)

    @cached_property
    def numeric(self) -> list[bool]:
        """Of each column, whether it is set to the right."""
        return [any(row.cells[heading].number for row in self.rows) for heading in self.head]


def pairs(head: tuple[str, str], rows: Mapping[str, str]) -> Table:
    """A table of two columns of text."""
    return Table([Row({h: Cell(text, text) for h, text in zip(head, row, strict=True)}) for row in rows.items()])


def _number(value: int | None) -> Cell:
    return Cell("" if value is None else str(value), value)


def _params(params: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Cell]:
    found = {heading: params.get(path) for path, heading in formatting.headings(paths).items()}
    return {heading: Cell(formatting.shown(value), value) for heading, value in found.items()}


def _costs(of: TrialRecord | Finalist, seconds: Mapping[str, float | None]) -> dict[str, Cell]:
    counts = {"params": of.params_count, "MACs": of.macs}
    cells = {heading: Cell(formatting.magnitude(count), count) for heading, count in counts.items()}
    if of.latency_ms is not None:
        cells["latency"] = Cell(formatting.milliseconds(of.latency_ms), of.latency_ms)
    return cells | {heading: Cell(formatting.duration(value), value) for heading, value in seconds.items()}


def _figure(found: Sequence[Found]) -> Cell:
    """Published figures; where they are from, and what was done in another way, on pointing at them."""
    errors = [one.figure.error for one in found if one.figure.error is not None]
    shown = " / ".join(dict.fromkeys(str(one.figure) for one in found))
    return Cell(shown, errors[0] if errors else shown or None, "\n".join(map(published.source, found)))


def _state(state: TrialState) -> Cell:
    return Cell("stopped" if state is TrialState.PRUNED else state.value, state, state=state)


def trials(of: Analysis, only: Sequence[TrialRecord] | None = None) -> Table | None:
    """Every trial, or `only` those: the ranked ones first, then those without a rank; None where there is none."""
    order = of.trials.ranked()
    rank = {trial.number: place for place, trial in enumerate(order, start=1)}
    every = [*order, *(trial for trial in of.trials if trial.number not in rank)]
    chosen = every if only is None else [trial for trial in order if trial in only]
    printed = {trial.number: published.of_params(of.summary, trial.params) for trial in chosen if only is None}
    worst = max((trial.measured or 0.0 for trial in of.trials), default=0.0)
    paths = wording.columns(of.summary.space, of.trials)
    marked, speed = any(printed.values()), Objective.IMAGES_PER_S in of.summary.objectives

    def row(trial: TrialRecord) -> Row:
        error, beaten = trial.measured, trial not in of.front
        part = None if error is None or not worst else 100 * error / worst
        cells = {
            "rank": _number(rank.get(trial.number)),
            "trial": _number(trial.number),
            formatting.error_on("val", of.summary.measure): Cell(
                formatting.percent(error, of.images), error, part=part
            ),
            **({"published": _figure(printed[trial.number])} if marked else {}),
            "epochs": Cell(f"{trial.epochs} of {of.summary.epochs}", trial.epochs),
            **({"state": _state(trial.state)} if only is None else {}),
            **({"front": Cell("" if beaten else "yes", int(not beaten))} if of.front else {}),
            **_params(trial.params, paths),
            **({"images/s": Cell(f"{trial.images_per_s or 0:,.0f}", trial.images_per_s)} if speed else {}),
            **_costs(trial, {"time": trial.seconds}),
        }
        return Row(cells, trial.number, trial is of.chosen)

    return Table([row(trial) for trial in chosen], "trials") if chosen else None


def finalists(of: Analysis) -> Table | None:
    """Every finalist, the champion first; None without finals."""
    finals = of.summary.finals
    if finals is None:
        return None
    paths, marked = wording.finals_columns(finals), any(of.published.values())

    def row(standing: Standing) -> Row:
        one, errors, found = standing.finalist, standing.errors, standing.interval
        lost = f" (+{len(standing.lost)} lost)" if standing.lost else ""
        ends = {"median": standing.median, "min": min(errors, default=None), "max": max(errors, default=None)}
        named = Cell(one.label, one.label) if one.label is not None else _number(one.number)
        cells = {
            "rank": _number(standing.rank),
            "finalist" if finals.compared else "trial": named,
            of.tested: Cell(standing.error, standing.mean),
            f"{100 * finals.level:g} % interval": Cell(standing.between, None if found is None else found.low),
            **({"published": _figure(of.published[one.number])} if marked else {}),
            **(_compared(finals, of.comparisons.get(one.number)) if of.comparisons else {}),
            "seeds": Cell(f"{len(errors)}{lost}", len(errors)),
            **{heading: Cell(formatting.points(value), value) for heading, value in ends.items()},
            "P(better)": Cell(formatting.probability(standing.lower) if standing.against else "", standing.lower),
            **_params(one.params, paths),
            **_costs(one, {"training": standing.seconds or None}),
        }
        return Row(cells, None if finals.compared else one.number, one is finals.champion)

    return Table([row(standing) for standing in of.standings], "finalists") if of.standings else None


def _compared(finals: Finals, one: Comparison | None) -> dict[str, Cell]:
    """The difference from the one that a configuration is compared with, and whether a paper has the same order."""
    shown, order = Cell("reference"), Cell("")
    if one is not None:
        found = one.found
        whom = "" if one.against == finals.finalists[0].label else f", against {one.against}"
        said = "too few trainings" if found is None else f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
        shown, order = Cell(said + whom, None if found is None else found.mean), Cell(one.order or "", one.order)
    return {f"against {finals.finalists[0].label}": shown, "paper": order}


def classes(of: Analysis) -> Table | None:
    """Every class by its error, the highest first; None where the answers to the test images are not known."""

    worst = max((one.error or 0.0 for one in of.classes), default=0.0)

    def row(one: OfClass) -> Row:
        error, between, other = one.error, one.interval, one.taken_for
        part = None if error is None or not worst else 100 * error / worst
        cells = {
            "class": Cell(one.name, one.name),
            "test images": _number(one.images),
            "error": Cell(formatting.percent(error, one.images), error, part=part),
            f"{100 * LEVEL:g} % interval": Cell(
                formatting.ABSENT if between is None else f"{between.low:.1f} to {between.high:.1f}",
                None if between is None else between.low,
            ),
            "mostly taken for": Cell("" if other is None else f"{other[0]} ({other[1]})", other and other[0]),
        }
        return Row(cells)

    found = sorted(of.classes, key=lambda one: (one.error is None, -(one.error or 0.0)))
    return Table([row(one) for one in found], "classes") if found else None


def confused(of: Analysis) -> Table | None:
    """The classes that are taken for each other most often; None where there are none."""
    pairs = [(one, other, n) for one in of.classes for other, n in one.given.items() if other != one.name]
    rows = [
        Row(
            {
                "class": Cell(one.name, one.name),
                "taken for": Cell(other, other),
                "images": _number(n),
                "of its images": Cell(formatting.percent(100 * n / one.images), 100 * n / one.images),
            }
        )
        for one, other, n in sorted(pairs, key=lambda pair: -pair[2])[:CONFUSED]
    ]
    return Table(rows) if rows else None


def mistakes(of: Analysis) -> Table | None:
    """The wrong answers of the highest probability; None where none is wrong."""
    files = any(one.name for one in of.mistakes)
    rows = [
        Row(
            {
                **({"file": Cell(one.name, one.name)} if files else {"test image": _number(one.image)}),
                "class": Cell(one.label, one.label),
                "taken for": Cell(one.given, one.given),
                "probability": Cell(formatting.probability(one.probability), one.probability),
            }
        )
        for one in of.mistakes
    ]
    return Table(rows) if rows else None


def lost(of: Analysis) -> list[str]:
    """The finalists that lost a training, and why, a sentence each."""
    finals = of.summary.finals
    return [_lost(standing, finals) for standing in of.standings if standing.lost and finals]


def _lost(standing: Standing, finals: Finals) -> str:
    ends = [f"seed {run.seed} {run.state.value}" + (f" ({run.reason})" if run.reason else "") for run in standing.lost]
    who = wording.begun(name(finals, standing.finalist))
    return f"{who} lost {formatting.plural(len(ends), 'training')}: {', '.join(ends)}."


LIMITS = {
    "params": "params above {:,}",
    "macs": "macs above {:,}",
    "activation_memory": "activation_memory above {:,} bytes",
    "latency_ms": "latency above {:,} ms",
    "start": "no weights of the network at its train.start",
    "signal": "the gradient cannot reach the first unit",
}


def refused(of: Analysis) -> str | None:
    """How many proposals were refused and why, in a sentence; None where none was."""
    if not of.refused:
        return None
    counted = [(limit, sum(limit in trial.exceeded for trial in of.refused)) for limit in LIMITS]
    parts = [f"{LIMITS[limit].format(of.summary.limits.get(limit))}: {number}" for limit, number in counted if number]
    why = f" ({'; '.join(parts)})" if parts else ""
    were = "was" if len(of.refused) == 1 else "were"
    return f"{formatting.plural(len(of.refused), 'proposal')} {were} beyond the limits{why} and never trained."


def ended(of: Analysis) -> Table | None:
    """Trials that ended before their last epoch, and why; None where there is none."""
    rows = [
        Row(
            {
                "trial": _number(trial.number),
                "state": _state(trial.state),
                "network": Cell(formatting.network(trial.params)),
                "epochs": _number(trial.epochs),
                formatting.error_on("val", of.summary.measure): Cell(
                    formatting.percent(trial.measured, of.images), trial.measured
                ),
                "reason": Cell(trial.reason or ""),
            }
        )
        for trial in of.trials
        if trial.state not in (TrialState.COMPLETE, TrialState.RUNNING)
    ]
    return Table(rows) if rows else None


def effects(of: Analysis) -> Table | None:
    """What one choice changes; None where nothing can be told."""
    rows = [
        Row(
            {
                "parameter": Cell(one.path),
                "value": Cell(one.value),
                "in place of": Cell(one.reference),
                "error, times": Cell(f"{one.ratio:.2f}", one.ratio),
                "interval": Cell(f"{one.low:.2f} to {one.high:.2f}"),
            }
        )
        for one in of.effects
    ]
    return Table(rows) if rows else None


def importance(of: Analysis) -> Table | None:
    """The share of each parameter, the largest first; None where nothing can be told."""
    shares = sorted(of.importance.items(), key=lambda item: -item[1])
    rows = [Row({"parameter": Cell(path, path), "importance": Cell(f"{share:.2f}", share)}) for path, share in shares]
    return Table(rows) if rows else None


def study(of: Analysis) -> Table:
    """Settings and environment."""
    summary = of.summary
    found = ", ".join(f"{number} {state}" for state, number in of.trials.counts().items() if number)
    facts: dict[str, str] = {}
    if not of.compares:
        facts["trials"] = f"{len(of.trials)} of {summary.trials}{': ' if found else ''}{found}"
        facts["epochs"] = f"{summary.epochs}, at least {summary.first_rung} before a trial may be stopped"
        facts["objectives"] = formatting.listed([wording.OBJECTIVES[objective] for objective in summary.objectives])
        facts |= {"starts": starts(of)} if of.starts else {}
        facts["sampler, scheduler, seed"] = f"{summary.sampler}, {summary.scheduler}, {summary.seed}"
    facts |= {f"limit: {limit}": f"{value:,}" for limit, value in summary.limits.items()}
    facts |= {"latency": summary.latency} if summary.latency else {}
    facts |= {"finals": _extent(summary.finals)} if summary.finals else {}
    facts["wall time"] = formatting.duration(summary.elapsed_seconds)
    facts["training time"] = formatting.duration(sum(of.seconds))
    facts |= {"cost": cost(of.cost)} if of.cost else {}
    data = {
        key: value for key, value in summary.data.items() if key not in ("survey", "counts_validation", "counts_test")
    }
    facts |= {f"data: {key}": _data(key, value) for key, value in data.items()}
    if "survey" in summary.data:
        facts |= {f"data: {key}": value for key, value in Survey.model_validate(summary.data["survey"]).facts().items()}
    facts["hardware"] = summary.hardware
    facts["versions"] = ", ".join(f"{package} {version}" for package, version in summary.versions.items())
    return pairs(("what", "value"), facts)


def starts(of: Analysis) -> str:
    """`trial 0: the papers' recipe; trials 1, 2: good on other data`."""
    by_source: dict[str, list[int]] = {}
    for number, source in sorted(of.starts.items()):
        by_source.setdefault(source, []).append(number)
    return "; ".join(
        f"{'trials' if len(numbers) > 1 else 'trial'} {', '.join(map(str, numbers))}: {source}"
        for source, numbers in by_source.items()
    )


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
        return f"{value:,}" if isinstance(value, int) else formatting.shown(value)
    if key == "shape":
        return " x ".join(map(str, value))
    return f"{len(value)}: {', '.join(map(str, value[:10]))}{', ...' if len(value) > 10 else ''}"
