"""What follows from the records of a study: the best trial, its uncertainty, its rivals."""

from collections.abc import Sequence
from math import inf, isfinite, sqrt
from statistics import median

from search.records import TrialRecord, TrialState

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


def standard_error(error: float, images: int) -> float:
    """Standard error in points of an error of `error` percent counted on `images` images: sqrt(p (1 - p) / n)."""
    share = error / 100
    return 100 * sqrt(share * (1 - share) / images)


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
