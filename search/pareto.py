"""Which trials no other beats in every objective of a study."""

from collections.abc import Sequence
from itertools import groupby
from math import isfinite

from search.records import TrialRecord, TrialState
from search.study_sections import Objective

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
