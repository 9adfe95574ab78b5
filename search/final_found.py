"""What the finals of a study have found so far, from the records of their trainings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage

from search.final_ledger import SUFFIX, FinalLedger
from search.finals import Candidate, FinalCourse, best_trials, compared, finalists, with_champion
from search.limits import Appraisal
from search.records import Finals, TrialRecord
from search.spec import TrialSpec
from search.study_spec import StudySpec

LEVEL = 0.95  # of all intervals and comparisons


def candidates(
    spec: StudySpec,
    ledger: Callable[[], FinalLedger],
    trials: Sequence[TrialRecord],
    shape: tuple[int, int, int],
    classes: int,
) -> Sequence[Candidate]:
    """Who takes part, known once the search is over: the best of its `trials`, or the rows that are compared.

    Images are of `shape` (height, width, channels). `ledger` is opened for rows alone, which have their numbers there.
    """
    if spec.compare:
        return compared(spec.rows(shape, classes), ledger())
    return best_trials(trials, spec.search.objectives, spec.finals.top)


def course(spec: StudySpec, ledger: FinalLedger, of: Sequence[Candidate], tested_on: int) -> FinalCourse:
    """Which training is next; `tested_on` images."""
    return FinalCourse(ledger, of, spec.finals, LEVEL, 100 / tested_on)


def copied(storage: BaseStorage, search: str) -> FinalLedger | None:
    """The records of the finals of a search, in a copy, for a ledger mends what it opens; None where there are none."""
    name = search + SUFFIX
    if name not in optuna.get_all_study_names(storage):
        return None
    copy = optuna.storages.InMemoryStorage()
    optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=copy)
    return FinalLedger(copy, search, _never_asked)


def _never_asked(spec: TrialSpec) -> Appraisal:
    raise AssertionError(f"nothing is added to a copy: {spec}")


def finals_of(
    spec: StudySpec,
    ledger: FinalLedger,
    trials: Sequence[TrialRecord],
    data: Mapping[str, Any],
    trial_runs: Mapping[int, str] | None = None,
    seed_runs: Mapping[tuple[int, int], str] | None = None,
) -> Finals | None:
    """What is found when nothing is run: from the records alone.

    Args:
        spec: of the study.
        ledger: of its finals, such as `copied` gives it.
        trials: of its search, which is over.
        data: as `StudySummary.data`.
        trial_runs: trial -> id of its run in MLflow.
        seed_runs: (trial, seed) -> id of its run in MLflow.
    """
    height, width, channels = data["shape"]
    of = candidates(spec, lambda: ledger, trials, (height, width, channels), len(data["classes"]))
    images = data["train"] + data["validation"], data["test"]
    ids = trial_runs or {}, seed_runs or {}
    return found(spec, course(spec, ledger, of, data["test"]), ledger.elapsed, images, *ids)


def complete(spec: StudySpec, course: FinalCourse, elapsed: float) -> bool:
    """Whether nothing is left to train, after so many seconds of the finals."""
    budget = spec.finals.time_budget
    return course.done or (budget is not None and elapsed >= budget and not course.unfinished)


def found(
    spec: StudySpec,
    course: FinalCourse,
    elapsed: float,
    images: tuple[int, int],
    trial_runs: Mapping[int, str],
    seed_runs: Mapping[tuple[int, int], str],
) -> Finals | None:
    """None where nobody takes part.

    Args:
        spec: of the study.
        course: of its finals.
        elapsed: seconds of them so far.
        images: that they train on, train and validation together, and that they are tested on.
        trial_runs: trial -> id of its run in MLflow.
        seed_runs: (trial, seed) -> id of its run in MLflow.
    """
    if not course.candidates:
        return None
    return with_champion(
        Finals(
            finalists=finalists(course.candidates, course.entered(), trial_runs, seed_runs),
            epochs=spec.epochs,
            seeds=spec.finals.seeds,
            most_seeds=spec.finals.max_seeds,
            level=LEVEL,
            trained_on=images[0],
            tested_on=images[1],
            complete=complete(spec, course, elapsed),
            compared=bool(spec.compare),
            scale=spec.scale.changed if spec.scale else {},
            scale_name=spec.scale.name if spec.scale else None,
        )
    )
