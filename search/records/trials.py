"""What follows from the records of a study: the ranking, the best trial, its rivals, the Pareto front."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from math import inf, isfinite
from statistics import median
from typing import TYPE_CHECKING

from search.records.records import WORST, TrialRecord, TrialState
from search.spec import Objective
from search.statistics import standard_error

if TYPE_CHECKING:
    from pandas import DataFrame

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.INFEASIBLE, TrialState.DIVERGED)

RANKED = (TrialState.COMPLETE, TrialState.PRUNED)  # ends that leave a result


def counts(trials: Sequence[TrialRecord]) -> dict[str, int]:
    """Number of trials by state: the five ends always, `running` only while some still run."""
    found = {state: sum(trial.state is state for trial in trials) for state in TrialState}
    shown = (*ENDED, *([TrialState.RUNNING] if found[TrialState.RUNNING] else []))
    return {state.value: found[state] for state in shown}


def own(trials: Sequence[TrialRecord]) -> int:
    """How many trials the study itself began: those of the study before it that it took over are no part of what was
    asked for."""
    return sum(trial.origin is None for trial in trials)


def measured(trial: TrialRecord) -> float | None:
    """Validation error in percent at the last epoch; None where it is missing, NaN or infinite."""
    error = trial.val_error
    return error if error is not None and isfinite(error) else None


def result(trial: TrialRecord) -> float | None:
    """Like `measured`, but None for a trial that failed or diverged: what it had before counts for nothing."""
    return measured(trial) if trial.state in (*RANKED, TrialState.RUNNING) else None


def finite_curve(trial: TrialRecord) -> dict[int, float]:
    """Epoch -> validation error in percent, without the epochs where it was NaN or infinite."""
    return {epoch: error for epoch, error in trial.curve.items() if isfinite(error)}


def lowest(trial: TrialRecord) -> float | None:
    """Lowest validation error in percent at any epoch; None where no epoch has a finite one."""
    return min(finite_curve(trial).values(), default=None)


def ranked(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Complete trials, best first, then the pruned ones: by error, then fewer MACs, then lower number."""

    def key(trial: TrialRecord) -> tuple[bool, float, float, int]:
        macs = inf if trial.macs is None else trial.macs
        return trial.state is TrialState.PRUNED, measured(trial) or 0.0, macs, trial.number

    return sorted((t for t in trials if t.state in RANKED and measured(t) is not None), key=key)


def best(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The first of `ranked`; a pruned trial only where none is complete; None where nothing ended an epoch."""
    return next(iter(ranked(trials)), None)


def margin(error: float, images: int) -> float:
    """Points within which an error is not told from the best one: its standard error.

    No image wrong has standard error 0, which knows nothing of the images not drawn; there it is 3 / n, at most 1, the
    upper end of the 95 % interval (Hanley and Lippman-Hand, JAMA 1983, "If nothing goes wrong, is everything all
    right?").
    """
    return min(300 / images, 100.0) if error == 0 else standard_error(error, images)


def rivals(trials: Sequence[TrialRecord], images: int) -> list[TrialRecord]:
    """Other trials of the best one's state whose error lies within its `margin`, best first."""
    order = ranked(trials)
    if not order:
        return []
    first, *rest = order
    error = measured(first) or 0.0
    limit = error + margin(error, images) + 1e-9  # rounding of a percentage must not part equal counts of images
    return [trial for trial in rest if trial.state is first.state and (measured(trial) or 0.0) <= limit]


def without_refused(trials: Sequence[TrialRecord]) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """The trials, and the proposals beyond the study's limits, which never were one; both by number."""
    by_number = sorted(trials, key=lambda trial: trial.number)
    return [t for t in by_number if not t.refused], [t for t in by_number if t.refused]


def at_epoch(trials: Sequence[TrialRecord], epoch: int) -> list[tuple[TrialRecord, float]]:
    """Trials with a finite error at that epoch, whatever became of them later: a comparison at equal budget."""
    return [(trial, trial.curve[epoch]) for trial in trials if epoch in trial.curve and isfinite(trial.curve[epoch])]


def effect(trials: Sequence[TrialRecord], path: str, epoch: int) -> dict[str, list[tuple[TrialRecord, float]]]:
    """Value of one parameter -> its trials and their errors at `epoch`; `n/a` for trials it does not apply to."""
    groups: dict[str, list[tuple[TrialRecord, float]]] = {}
    present = at_epoch(trials, epoch)
    for trial, error in sorted(present, key=lambda pair: sort_key(pair[0].params.get(path))):
        value = trial.params.get(path)
        groups.setdefault("n/a" if value is None else str(value), []).append((trial, error))
    return groups


def sort_key(value: object) -> tuple[int, float, str]:
    """Numbers by size, then words by alphabet, then missing values: a total order over mixed values."""
    if value is None:
        return 2, 0.0, ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def middle(errors: Sequence[float]) -> float:
    """Median, in the unit of `errors`."""
    return float(median(errors))


Place = tuple[float, int]  # error in percent, number of the trial


class Standings:
    """Trials by number, in the order in which they came, compared after equal numbers of epochs.

    Args:
        records: to begin with.
    """

    def __init__(self, records: Iterable[TrialRecord] = ()) -> None:
        self._records: dict[int, TrialRecord] = {}
        self._reached: defaultdict[int, list[Place]] = defaultdict(list)  # epoch -> best first
        self._diverged: list[TrialRecord] = []
        self._counted: Callable[[int], bool] | None = None
        for record in records:
            self.put(record)

    def put(self, record: TrialRecord) -> None:
        """Adds a trial, or what has become of one: epochs may have come to its curve, none changes."""
        before = self._records.get(record.number)
        for epoch in record.curve.keys() - (before.curve.keys() if before else ()):
            insort(self._reached[epoch], (record.curve[epoch], record.number))
        if record.state is TrialState.DIVERGED and (before is None or before.state is not TrialState.DIVERGED):
            self._diverged.append(record)
        self._records[record.number] = record

    def at(self, epoch: int) -> Sequence[Place]:
        """`TrialRecord.error_at` of all trials that have one, best first."""
        places = self._reached[epoch]
        if late := [(WORST, r.number) for r in self._diverged if r.epochs < epoch]:
            places = sorted(places + late)
        if self._counted:
            places = [place for place in places if self._counted(place[1])]
        return places

    def only(self, counted: Callable[[int], bool]) -> "Standings":
        """A view of the trials whose numbers count."""
        view = Standings()
        view._records, view._reached, view._diverged = self._records, self._reached, self._diverged
        view._counted = counted
        return view

    def __getitem__(self, number: int) -> TrialRecord:
        return self._records[number]

    def __len__(self) -> int:
        return sum(1 for _ in self) if self._counted else len(self._records)

    def __iter__(self) -> Iterator[TrialRecord]:
        records = self._records.values()
        return (r for r in records if self._counted(r.number)) if self._counted else iter(records)


def better(error: float, places: Sequence[Place]) -> int:
    """How many of these have a lower error."""
    return bisect_left(places, (error,))


Point = tuple[float, ...]


def objective_value(trial: TrialRecord, objective: Objective) -> float | None:
    """What was measured of one objective, in its own unit (percent, numbers, seconds); None where nothing was."""
    match objective:
        case Objective.VAL_ERROR:
            value = trial.val_error
        case Objective.MACS:
            value = trial.macs
        case Objective.PARAMS:
            value = trial.params_count
        case Objective.IMAGES_PER_S:
            value = trial.images_per_s
        case Objective.SECONDS:
            value = trial.seconds
    return None if value is None or not isfinite(value) else float(value)


def front(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The trials that are not dominated, by the last of the `objectives`, the cheapest first, then by error.

    One trial dominates another when it is at least as good in every objective and better in one; of trials that are
    equal in all, all stay. Only complete trials are compared, for an error after fewer epochs is another quantity; and
    only those of which every objective was measured.
    """
    points: list[tuple[Point, TrialRecord]] = []
    for trial in trials:
        point = _point(trial, objectives)
        if trial.state is TrialState.COMPLETE and point is not None:
            points.append((point, trial))
    points.sort(key=lambda pair: (pair[0], pair[1].number))
    kept: list[tuple[Point, TrialRecord]] = []
    for point, equals in groupby(points, key=lambda pair: pair[0]):
        # Whatever dominates this point comes before it in this order, and so does what dominates that in turn.
        if not any(all(a <= b for a, b in zip(other, point, strict=True)) for other, _ in kept):
            kept += equals
    return [trial for _, trial in sorted(kept, key=lambda pair: (pair[0][::-1], pair[1].number))]


def to_be_small(trial: TrialRecord, objective: Objective) -> float | None:
    """`objective_value` so that less is better."""
    value = objective_value(trial, objective)
    return -value if value is not None and objective is Objective.IMAGES_PER_S else value


def _point(trial: TrialRecord, objectives: Sequence[Objective]) -> Point | None:
    point = [value for objective in objectives if (value := to_be_small(trial, objective)) is not None]
    return tuple(point) if len(point) == len(objectives) else None


class Trials(tuple[TrialRecord, ...]):
    """The trials of a study as they are at one moment, by number."""

    def to_frame(self) -> "DataFrame":
        """A row for each trial by number: how it ended, its error in percent, its costs, and its parameters by path."""
        import pandas  # noqa: PLC0415  takes half a second, which nobody else has to wait for

        shown = ("state", "val_error", "epochs", "params_count", "macs", "seconds", "images_per_s", "reason")
        rows = [{name: getattr(trial, name) for name in shown} | trial.params for trial in self]
        return pandas.DataFrame(rows, index=pandas.Index([trial.number for trial in self], name="trial"))
