"""What one choice does to the error, all else alike, between the trials of a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from search import formatting
from search.records import StudySummary, TrialRecord, Trials
from search.report.wording import sort_key, varied

LEVEL = 0.95
ENOUGH_FREEDOM = 5  # degrees of freedom that the model must leave
FEW_VALUES = 8  # up to so many values a number is taken as categories
MAX_EFFECTS = 6
SAME = 1e-6  # between 1 and the part of a coefficient that the trials determine, where they determine it


@dataclass(frozen=True)
class Effect:
    """How many times as large the error is with `value` as with `reference`, between trials alike in all else."""

    path: str
    value: str
    reference: str
    ratio: float
    low: float  # of the interval of level `LEVEL`
    high: float
    trials: int  # on which it rests


def effect_paths(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """Parameters of few enough values to compare, those the study asks about first."""
    compared = [trial for trial, _ in Trials(trials).at(summary.first_rung)]
    found = varied(summary.space, compared)
    order = sorted(found, key=lambda path: (*formatting.ASKED, path).index(path))

    def comparable(path: str) -> bool:
        """Few values, and most of them seen more than once: a median of one trial compares nothing."""
        sizes = [len(members) for members in by_value(compared, path, summary.first_rung).values()]
        return len(sizes) <= FEW_VALUES and 2 * sum(size > 1 for size in sizes) > len(sizes)

    return [path for path in order if comparable(path)][:MAX_EFFECTS]


def by_value(trials: Sequence[TrialRecord], path: str, epoch: int) -> dict[str, list[tuple[TrialRecord, float]]]:
    """Value of one parameter -> its trials and their errors at `epoch`; `n/a` for trials it does not apply to."""
    groups: dict[str, list[tuple[TrialRecord, float]]] = {}
    for trial, error in sorted(Trials(trials).at(epoch), key=lambda pair: sort_key(pair[0].params.get(path))):
        value = trial.params.get(path)
        groups.setdefault(formatting.ABSENT if value is None else str(value), []).append((trial, error))
    return groups


def effects(summary: StudySummary, trials: Sequence[TrialRecord], chosen: TrialRecord | None = None) -> list[Effect]:
    """Of every value of the parameters of `effect_paths`, against the value that the `chosen` trial has, or the best.

    Least squares of the logarithm of the error on all parameters that varied at once: a level for each category, a line
    and a parabola for a number (without the parabolas where they would leave too few degrees of freedom), no
    interactions. What the trials cannot tell apart (two choices that always went together) is left out.

    All trials that reached the first rung count, with their error there: an equal budget, before any could be stopped.
    An error of 0 counts as half an image.
    """
    measured, chosen = Trials(trials).at(summary.first_rung), chosen or Trials(trials).best
    if chosen is None or not measured:
        return []
    compared = [trial for trial, _ in measured]
    y = np.log([max(error, 50 / int(summary.data["validation"])) for _, error in measured])
    for degree in (2, 1):
        columns, x = _design(summary, compared, chosen, degree)
        freedom = len(y) - int(np.linalg.matrix_rank(x))
        if freedom >= ENOUGH_FREEDOM:
            break
    else:
        return []
    inverse = np.linalg.pinv(x.T @ x, hermitian=True, rcond=1e-10)
    estimate = inverse @ x.T @ y
    variance = float(((y - x @ estimate) ** 2).sum()) / freedom * np.diag(inverse)
    determined = np.diag(inverse @ x.T @ x)
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(variance)
    found: list[Effect] = []
    for path in effect_paths(summary, trials):
        for value in sorted({t.params[path] for t in compared if path in t.params}, key=sort_key):
            at = columns.get((path, value))
            if at is not None and path in chosen.params and abs(determined[at] - 1) < SAME:
                ends = (exp(estimate[at] + side * half[at]) for side in (0, -1, 1))
                found.append(Effect(path, str(value), str(chosen.params[path]), *ends, trials=len(y)))
    return found


def _design(
    summary: StudySummary, trials: Sequence[TrialRecord], chosen: TrialRecord, degree: int
) -> tuple[dict[tuple[str, Any], int], NDArray[np.float64]]:
    """(path, value) -> its column, and the matrix: a row for each trial, 1 and then every parameter that varied.

    A value that the chosen trial has, as reference, has no column; a trial that lacks a parameter has 0.
    """
    rows = [np.ones(len(trials))]
    columns: dict[tuple[str, Any], int] = {}
    for path in varied(summary.space, trials):
        values = [trial.params.get(path) for trial in trials]
        seen = sorted({value for value in values if value is not None}, key=sort_key)
        if len(seen) > FEW_VALUES and all(sort_key(value)[0] == 0 for value in seen):
            rows += _powers(values, degree)
            continue
        reference = chosen.params.get(path, seen[0])
        for value in seen:
            if value != reference:
                columns[path, value] = len(rows)
                rows.append(np.array([float(one == value) for one in values]))
    return columns, np.column_stack(rows)


def _powers(values: Sequence[Any], degree: int) -> list[NDArray[np.float64]]:
    """A number and its powers, centred and scaled over the trials that have it; logarithmic over more than a decade."""
    known = np.array([float("nan") if value is None else float(value) for value in values])
    if np.nanmin(known) > 0 and np.nanmax(known) > 10 * np.nanmin(known):
        known = np.log(known)
    scaled = (known - np.nanmean(known)) / (np.nanstd(known) or 1.0)
    return [np.nan_to_num(scaled**power).astype(np.float64) for power in range(1, degree + 1)]
