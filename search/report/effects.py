"""What one choice does to the error, all else alike: in the search, and among finalists."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from search import formatting
from search.records import Finalist, Finals, StudySummary, TrialRecord, Trials
from search.report import wording
from search.report.finals import standings
from search.statistics import Difference, difference, mean_interval

LEVEL = 0.95
ENOUGH_PAIRS = 3
ENOUGH_FREEDOM = 5  # degrees of freedom that a model must leave
FEW_VALUES = 8  # up to so many values a number is taken as categories, as in `search.importance`
MAX_EFFECTS = 6

Measured = tuple[TrialRecord, float]  # a trial and the logarithm of its error


@dataclass(frozen=True)
class Effect:
    """How many times as large the error is with `value` as with `reference`, between trials alike in all else."""

    path: str
    value: str
    reference: str
    ratio: float
    low: float  # of the interval of level `LEVEL`
    high: float
    pairs: int  # of configurations; 0 where it follows from a model
    trials: int  # on which it rests


def effect_paths(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[str]:
    """Parameters of few enough values to compare, those the study asks about first."""
    compared = [trial for trial, _ in Trials(trials).at(summary.first_rung)]
    varied = wording.varied(summary, compared)
    order = [
        *(path for path in formatting.ASKED if path in varied),
        *(path for path in varied if path not in formatting.ASKED),
    ]
    return [path for path in order if _comparable(by_value(compared, path, summary.first_rung))][:MAX_EFFECTS]


def by_value(trials: Sequence[TrialRecord], path: str, epoch: int) -> dict[str, list[tuple[TrialRecord, float]]]:
    """Value of one parameter -> its trials and their errors at `epoch`; `n/a` for trials it does not apply to."""
    groups: dict[str, list[tuple[TrialRecord, float]]] = {}
    for trial, error in sorted(Trials(trials).at(epoch), key=lambda pair: wording.sort_key(pair[0].params.get(path))):
        value = trial.params.get(path)
        groups.setdefault("n/a" if value is None else str(value), []).append((trial, error))
    return groups


def _comparable(groups: dict[str, list[tuple[TrialRecord, float]]]) -> bool:
    """Few values, and most of them seen more than once: a median of one trial compares nothing."""
    return len(groups) <= FEW_VALUES and 2 * sum(len(members) > 1 for members in groups.values()) > len(groups)


def effects(summary: StudySummary, trials: Sequence[TrialRecord]) -> list[Effect]:
    """Of every value of the parameters of `effect_paths`, against the value that the best trial has.

    All trials that reached the first rung count, with their error there: an equal budget, before any could be stopped.
    Errors are compared by their ratio, on a logarithmic scale; one of 0 counts as half an image.

    Pairs: trials that agree in every parameter that both have, but for this one; several of one configuration are
    averaged first, so that every pair counts once. With three pairs or more, the interval is Student's over pairs.

    Model: least squares of the logarithm of the error on all parameters that varied at once, a level for each category,
    a line and a parabola for a number (without the parabolas where they would leave too few degrees of freedom), no
    interactions. What it cannot tell apart (two choices that always went together) is left out.
    """
    least = 50 / wording.validation_images(summary)
    measured = [(t, log(max(error, least))) for t, error in Trials(trials).at(summary.first_rung)]
    chosen = Trials(trials).best
    if chosen is None:
        return []
    paths = effect_paths(summary, trials)
    fitted = _Model.fit(summary, measured, chosen)
    found: list[Effect] = []
    for path in paths:
        present = {t.params[path] for t, _ in measured if path in t.params}
        reference = chosen.params.get(path)
        if reference not in present:
            continue
        for value in sorted(present - {reference}, key=wording.sort_key):
            effect = _paired(measured, path, value, reference) or (fitted and fitted.effect(path, value, reference))
            found += [effect] if effect else []
    return found


def basis(effect: Effect) -> str:
    """On what an effect rests."""
    if effect.pairs:
        return f"{effect.pairs} pairs of configurations that differ in this alone, {effect.trials} trials"
    return f"a model of {effect.trials} trials"


def _paired(measured: Sequence[Measured], path: str, value: Any, reference: Any) -> Effect | None:
    sides = {v: [pair for pair in measured if pair[0].params.get(path) == v] for v in (value, reference)}
    by_configuration: defaultdict[str, list[tuple[list[float], list[float]]]] = defaultdict(list)
    used: set[int] = set()
    for one, error in sides[reference]:
        twins = [(other, e) for other, e in sides[value] if _alike(one, other, path)]
        if twins:
            by_configuration[_configuration(one, path, [other for other, _ in twins])].append(
                ([error], [e for _, e in twins])
            )
            used |= {one.number, *(other.number for other, _ in twins)}
    differences = [
        _mean([e for _, twins in group for e in twins]) - _mean([e for own, _ in group for e in own])
        for group in by_configuration.values()
    ]
    interval = mean_interval(differences, LEVEL) if len(differences) >= ENOUGH_PAIRS else None
    if interval is None:
        return None
    ends = exp(_mean(differences)), exp(interval.low), exp(interval.high)
    return Effect(path, str(value), str(reference), *ends, len(differences), len(used))


def _alike(one: TrialRecord, other: TrialRecord, path: str) -> bool:
    """Whether they agree in every parameter that both have, but for `path`: what only one has, follows from it."""
    common = (one.params.keys() & other.params.keys()) - {path, "train.seed"}
    return all(one.params[p] == other.params[p] for p in common)


def _configuration(one: TrialRecord, path: str, twins: Sequence[TrialRecord]) -> str:
    """What a pair has in common: pairs of the same count once."""
    shared = one.params.keys() & set.intersection(*(set(twin.params) for twin in twins)) - {path, "train.seed"}
    return repr(sorted((p, one.params[p]) for p in shared))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclass(frozen=True)
class _Model:
    columns: dict[tuple[str, Any], int]  # (path, value) -> column; the reference has none
    estimate: NDArray[np.float64]
    covariance: NDArray[np.float64]
    told: NDArray[np.float64]  # projection onto the combinations of coefficients that the trials tell apart
    freedom: int
    trials: int

    @classmethod
    def fit(cls, summary: StudySummary, measured: Sequence[Measured], chosen: TrialRecord) -> "_Model | None":
        y = np.array([error for _, error in measured])
        for degree in (2, 1):
            columns, x = _design(summary, [trial for trial, _ in measured], chosen, degree)
            inverse = np.linalg.pinv(x.T @ x, hermitian=True, rcond=1e-10)
            freedom = len(y) - int(np.linalg.matrix_rank(x)) if len(y) else 0
            if freedom >= ENOUGH_FREEDOM:
                estimate = inverse @ x.T @ y
                variance = float(((y - x @ estimate) ** 2).sum()) / freedom
                told = inverse @ x.T @ x
                return cls(columns, estimate, np.asarray(variance * inverse, np.float64), told, freedom, len(y))
        return None

    def effect(self, path: str, value: Any, reference: Any) -> Effect | None:
        column = self.columns.get((path, value))
        if column is None or abs(self.told[column, column] - 1) > 1e-6:
            return None
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.freedom)) * float(np.sqrt(self.covariance[column, column]))
        middle = float(self.estimate[column])
        ends = exp(middle), exp(middle - half), exp(middle + half)
        return Effect(path, str(value), str(reference), *ends, 0, self.trials)


def _design(
    summary: StudySummary, trials: Sequence[TrialRecord], chosen: TrialRecord, degree: int
) -> tuple[dict[tuple[str, Any], int], NDArray[np.float64]]:
    """A row for each trial: 1, then every parameter that varied; 0 where a trial lacks one."""
    rows = [np.ones(len(trials))]
    columns: dict[tuple[str, Any], int] = {}
    for path in wording.varied(summary, trials):
        values = [trial.params.get(path) for trial in trials]
        seen = sorted({value for value in values if value is not None}, key=wording.sort_key)
        if len(seen) > FEW_VALUES and all(wording.sort_key(value)[0] == 0 for value in seen):
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


@dataclass(frozen=True)
class Contrast:
    """Mean test error of `one` less that of `other`, in points; only `path`, and what follows from it, parts them."""

    path: str
    one: Finalist
    other: Finalist
    value: Any  # of `one`
    reference: Any  # of `other`
    difference: Difference

    @property
    def seeds(self) -> tuple[int, int]:
        """Trainings of either."""
        return len(self.one.tested), len(self.other.tested)


def contrasts(finals: Finals) -> list[Contrast]:
    """All such pairs whose one side has the value that the champion has, or the first finalist where there is none.

    A parameter that one of them lacks follows from the one that parts them, such as the bias of a gate. The interval of
    the difference is Welch's, of level `Finals.level`, over seeds.
    """
    order = [s.finalist for s in standings(finals) if len(s.errors) > 1]
    if not order:
        return []
    found: list[Contrast] = []
    for path in _paths(order):
        reference = order[0].params.get(path)
        others = [f for f in order if f.params.get(path) == reference]
        for one in sorted(order, key=lambda f: wording.sort_key(f.params.get(path))):
            if one.params.get(path) == reference or reference is None:
                continue
            for other in others:
                seen = difference(one.tested, other.tested, finals.level, 100 / finals.tested_on)
                if seen is not None and _parts(one, other) == [path]:
                    found.append(Contrast(path, one, other, one.params.get(path), reference, seen))
    return found


def _paths(order: Sequence[Finalist]) -> list[str]:
    """Parameters that differ, those that a study asks about first."""
    every = {path for finalist in order for path in finalist.params}
    return [*(path for path in formatting.ASKED if path in every), *sorted(every - set(formatting.ASKED))]


def _parts(one: Finalist, other: Finalist) -> list[str]:
    """Parameters in which both have a value, and not the same."""
    return [path for path in one.params.keys() & other.params.keys() if one.params[path] != other.params[path]]
