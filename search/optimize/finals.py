"""The finals: who takes part, which training is next, and what they have found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, takewhile
from statistics import fmean
from typing import Any

import optuna
from optuna.storages import BaseStorage

from search.optimize.race import race
from search.optimize.schedulers import Held
from search.records import Asked, Finalist, FinalLedger, Finals, SeedRun, TrialRecord, Trials, TrialState
from search.spec import Appraisal, Configuration, FinalSpec, Objective, StudySpec, TrialSpec

SEED = "train.seed"


@dataclass(frozen=True)
class Candidate:
    """A configuration that takes part; its `spec` is trained with seeds 0, 1, 2 ..."""

    number: int  # of the trial, or among those that the study compares
    spec: TrialSpec
    label: str | None = None
    published: tuple[str, ...] = ()  # keys of published figures
    against: str | None = None  # label of the row that it is compared with


def best_trials(records: Trials, objectives: Sequence[Objective], top: int) -> list[Candidate]:
    """The `top` complete trials of the lowest validation error; with several objectives, of the Pareto front."""
    complete = [r for r in records.ranked() if r.state is TrialState.COMPLETE]
    if len(objectives) > 1:
        unbeaten = {r.number for r in records.front(objectives)}
        complete = [r for r in complete if r.number in unbeaten]
    different: dict[str, TrialRecord] = {}  # where a space has the seed in it, some trials differ by that alone
    for record in complete:
        different.setdefault(TrialSpec.from_flat(without_seed(record.params)).digest, record)
    chosen = list(different.values())[:top]
    return [Candidate(r.number, TrialSpec.from_flat(without_seed(r.params))) for r in chosen]


def without_seed(params: Mapping[str, object]) -> dict[str, object]:
    """A flat view without the seed."""
    return {path: value for path, value in params.items() if path != SEED}


def compared(rows: Sequence[Configuration], ledger: FinalLedger) -> list[Candidate]:
    """The rows of a study that compares, with the numbers that they have kept since each was first compared."""
    numbers = ledger.numbered([row.trial.digest for row in rows])
    return [Candidate(numbers[row.trial.digest], row.trial, row.label, row.published, row.against) for row in rows]


@dataclass
class FinalCourse:
    """Which training is next, for the searcher.

    In rounds, as `race` decides from the rounds before, so that finals that were interrupted are decided the same.

    Args:
        ledger: of the finals.
        candidates: who take part.
        spec: how many seeds.
        level: of what is claimed.
        resolution: step between test errors in percent.
    """

    ledger: FinalLedger
    candidates: Sequence[Candidate]
    spec: FinalSpec
    level: float
    resolution: float

    @property
    def unfinished(self) -> list[Asked]:
        """Trainings that an earlier process left at work."""
        here = {c.number for c in self.candidates}
        return [self.ledger.asked(r.number) for r in self.ledger.records if r.running and r.finalist in here]

    @property
    def waiting(self) -> frozenset[int]:
        """None: every training goes to its end."""
        return frozenset()

    def judge(self, number: int) -> Held | None:
        """None: every training goes to its end."""

    def wait(self, number: int) -> None:
        """Never called: `judge` holds nothing."""
        raise AssertionError(number)

    def next(self) -> Asked | None:
        """The training to begin now; None while a round is being run, or when there is none any more."""
        wanted = self._wanted()
        if wanted is None:
            return None
        number, seed = wanted
        spec = next(c.spec for c in self.candidates if c.number == number)
        return self.ledger.enter(number, with_seed(spec, seed))

    @property
    def done(self) -> bool:
        """Whether nothing is left to train."""
        return self._wanted() is None and not self.unfinished

    @property
    def trainings(self) -> int:
        """How many there are to be, as far as is decided."""
        return len(self._decided())

    def entered(self) -> list[TrialRecord]:
        """Trainings of the candidates that were begun."""
        here = {c.number for c in self.candidates}
        return [r for r in self.ledger.records if r.finalist in here]

    def _wanted(self) -> tuple[int, int] | None:
        begun = {(r.finalist, r.seed) for r in self.entered()}
        return next((one for one in self._decided() if one not in begun), None)

    def _decided(self) -> list[tuple[int, int]]:
        """(Number, seed) of the trainings of all rounds that are decided, every round's in turn."""
        results = {c.number: self._outcomes(c) for c in self.candidates}
        wanted = race(results, self.spec.seeds, self.spec.max_seeds, self.level, self.resolution).wanted
        return [(number, seed) for seed in range(self.spec.max_seeds) for number in wanted if seed < wanted[number]]

    def _outcomes(self, candidate: Candidate) -> list[float | None]:
        """See `race.Outcomes`."""
        own = {r.seed: r for r in self.entered() if r.finalist == candidate.number and not r.running}
        over = (own[seed] for seed in takewhile(own.__contains__, count()))
        return [run.test["error"] if run.test else None for run in over]


def with_seed(spec: TrialSpec, seed: int) -> TrialSpec:
    """The same configuration with another seed."""
    return TrialSpec.from_flat(spec.flat() | {SEED: seed})


def finalists(
    candidates: Sequence[Candidate],
    runs: Sequence[TrialRecord],
    trial_runs: Mapping[int, str],
    seed_runs: Mapping[tuple[int, int], str],
) -> tuple[Finalist, ...]:
    """Candidates with their trainings; `trial_runs` and `seed_runs` are the ids of their runs in MLflow."""
    found = []
    for candidate in candidates:
        own = sorted((r for r in runs if r.finalist == candidate.number), key=lambda r: r.seed)
        price = next(iter(own), None)
        found.append(
            Finalist(
                number=candidate.number,
                params={p: v for p, v in candidate.spec.flat().items() if p != SEED},
                runs=tuple(_seed_run(r, seed_runs) for r in own),
                label=candidate.label,
                published=candidate.published,
                params_count=price.params_count if price else None,
                macs=price.macs if price else None,
                mlflow_run_id=trial_runs.get(candidate.number),
                against=candidate.against,
            )
        )
    return tuple(found)


def _seed_run(record: TrialRecord, run_ids: Mapping[tuple[int, int], str]) -> SeedRun:
    seed, test = record.seed, record.test or {}
    return SeedRun(
        number=record.number,
        seed=seed,
        state=record.state,
        epochs=record.epochs,
        train_curve=record.curve,
        test_error=test.get("error"),
        test_loss=test.get("loss"),
        seconds=record.seconds,
        reason=record.reason,
        mlflow_run_id=run_ids.get((record.finalist or 0, seed)),
    )


def with_champion(finals: Finals) -> Finals:
    """Names the champion: of the finalists without a failed training, the one of the lowest mean test error.

    None before every finalist has its `seeds` trainings. The training whose weights stand for it is that of the median
    test error, the lower of two: its error is what the mean says, not better by choice.
    """
    if any(sum(r.state is not TrialState.RUNNING for r in f.runs) < finals.seeds for f in finals.finalists):
        return finals
    sound = [f for f in finals.finalists if f.tested and all(r.test_error is not None for r in f.runs)]
    if not sound:
        return finals
    best = min(sound, key=lambda f: (fmean(f.tested), f.macs or 0, f.number))
    order = sorted(best.runs, key=lambda r: (r.test_error or 0.0, r.seed))
    return replace(finals, champion=best.number, champion_run=order[(len(order) - 1) // 2].number)


LEVEL = 0.95  # of all intervals and comparisons


def candidates(
    spec: StudySpec,
    ledger: Callable[[], FinalLedger],
    trials: Trials,
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
    name = search + FinalLedger.SUFFIX
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
    trials: Trials,
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
