"""The plan of the finals: who takes part, which training is next, and what they have found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, takewhile
from math import inf
from statistics import fmean
from typing import Any, ClassVar

import optuna
from optuna.storages import BaseStorage, InMemoryStorage

from resnet import NetSpec
from search.optimize.plan import SEED, Candidate, Plan
from search.optimize.race import race, verdict
from search.records import (
    Asked,
    End,
    Finalist,
    Finals,
    Ledger,
    SeedRun,
    Spent,
    StudySummary,
    TrialRecord,
    Trials,
    TrialState,
)
from search.spec import Appraisal, Configuration, LimitSpec, Objective, Space, StudySpec, TrialSpec, appraise
from search.statistics import LEVEL


def best_trials(records: Trials, objectives: Sequence[Objective], top: int) -> list[Candidate]:
    """The `top` complete trials of the lowest validation error; with several objectives, of the Pareto front.

    The best trial of each architecture, start and size of the images comes first: the same network with other rates
    would answer nothing.
    """
    complete = [r for r in records.ranked() if r.state is TrialState.COMPLETE]
    if len(objectives) > 1:
        unbeaten = {r.number for r in records.front(objectives)}
        complete = [r for r in complete if r.number in unbeaten]
    different: dict[str, Candidate] = {}  # where a space has the seed in it, some trials differ by that alone
    for record in complete:
        spec = TrialSpec.from_flat(without_seed(record.params))
        different.setdefault(spec.digest, Candidate(record.number, spec))
    networks: dict[tuple[NetSpec, str, int], Candidate] = {}
    for one in different.values():
        networks.setdefault((one.spec.net, one.spec.train.start, one.spec.train.image_size), one)
    first = list(networks.values())
    return [*first, *(one for one in different.values() if one not in first)][:top]


def without_seed(params: Mapping[str, object]) -> dict[str, object]:
    """A flat view without the seed."""
    return {path: value for path, value in params.items() if path != SEED}


def compared(rows: Sequence[Configuration], ledger: Ledger) -> list[Candidate]:
    """The rows of a study that compares; each keeps the number that it had when it was first compared."""
    numbers = dict(ledger.numbers)
    for row in rows:
        numbers.setdefault(row.trial.digest, len(numbers))
    return [Candidate(numbers[row.trial.digest], row.trial, row.label, row.published, row.against) for row in rows]


@dataclass
class FinalPlan(Plan):
    """Trains every candidate with one seed after another.

    In rounds, as `race` decides from the rounds before, so that finals that were interrupted are decided the same.
    """

    ledger: Ledger
    candidates: Sequence[Candidate]
    spec: StudySpec
    data: Mapping[str, Any]  # as `StudySummary.data`
    searched: Spent = field(
        default_factory=Spent
    )  # by the search, of the budgets that it has in common with the finals
    final: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.metric = "train/error"

    @property
    def records(self) -> Trials:
        """Trainings of the candidates that were begun."""
        here = {c.number for c in self.candidates}
        return Trials(r for r in self.ledger.records if r.finalist in here)

    @property
    def total(self) -> int:
        """How many trainings there are to be, as far as is decided."""
        return len(self._decided())

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to train. To be asked once the search is over."""
        return not self.unfinished and (self.end(self.ledger.spent, Spent()) is not None or not self._wanted())

    def next(self) -> Asked | None:
        """The training to begin now; None while a round is being run, or when there is none any more."""
        return self._enter(self._wanted())

    def beside(self, asked: Asked) -> Asked | None:
        """Another seed of the same finalist, or a training of one that differs in rates alone."""
        alike = {c.number for c in self.candidates if c.spec.has_steps_of(asked.spec)}
        return self._enter([(number, seed) for number, seed in self._wanted() if number in alike])

    def _enter(self, wanted: Sequence[tuple[int, int]]) -> Asked | None:
        if not wanted:
            return None
        number, seed = wanted[0]
        spec = next(c.spec for c in self.candidates if c.number == number)
        return self.ledger.enter(number, TrialSpec.from_flat(spec.flat() | {SEED: seed}), self.spec.search.measure)

    def endings(self) -> Iterator[tuple[int, TrialState, str]]:
        """No training goes on."""
        spent = f"the finals' time budget of {self.spec.finals.time_budget or 0:g} s was spent"
        own = {r.number for r in self.records}
        for number in [r.number for r in self.ledger.records if r.running]:
            reason = spent if number in own else "its configuration is no longer among the best"
            yield number, TrialState.FAILED, reason

    def end(self, spent: Spent, kept: Spent) -> End | None:
        """Why no further epoch begins: the finals' own time is used up."""
        limit = self.spec.finals.time_budget
        return End("time_budget", limit, f"{limit:g} s") if limit is not None and spent.seconds >= limit else None

    def largest(self, image: tuple[int, int]) -> TrialSpec:
        """The candidate that keeps most for its backward pass."""
        trials = (c.spec for c in self.candidates)
        return max(trials, key=lambda trial: appraise(trial, image, LimitSpec()).activation_bytes)

    def results(
        self, trial_runs: Mapping[int, str] | None = None, seed_runs: Mapping[tuple[int, int], str] | None = None
    ) -> Finals | None:
        """What the finals have found so far; None where nobody takes part. To be asked once the search is over.

        Args:
            trial_runs: trial -> id of its run in MLflow.
            seed_runs: (trial, seed) -> id of its run in MLflow.
        """
        if not self.candidates:
            return None
        spec, records, ids = self.spec, self.records, trial_runs or {}
        guess, effective = StudySummary.counted(self.data, "test", spec.search.measure)
        return with_champion(
            Finals(
                finalists=tuple(finalist(c, records, ids.get(c.number), seed_runs or {}) for c in self.candidates),
                epochs=spec.epochs,
                seeds=spec.finals.seeds,
                most_seeds=spec.finals.max_seeds,
                level=LEVEL,
                trained_on=self.data["train"] + self.data["validation"],
                tested_on=self.data["test"],
                complete=self.is_complete,
                compared=bool(spec.compare),
                scale=spec.scale.changed if spec.scale else {},
                scale_name=spec.scale.name if spec.scale else None,
                cost=next(iter(spec.search.objectives[1:]), Objective.LATENCY_MS if spec.latency else Objective.MACS),
                measure=spec.search.measure,
                guess=guess,
                effective=effective,
            )
        )

    def _wanted(self) -> list[tuple[int, int]]:
        """(Number, seed) of the trainings that may begin now."""
        begun = {(r.finalist, r.seed) for r in self.records}
        wanted = [one for one in self._decided() if one not in begun]
        if any(seed >= self.spec.finals.seeds for _, seed in wanted) and self._has_spent_all:
            return [one for one in wanted if one[1] < self.spec.finals.seeds]  # enough for an answer
        return wanted

    @property
    def _has_spent_all(self) -> bool:
        """Whether a budget of search and finals together is used up."""
        common = self.spec.search.model_copy(update={"time_budget": None})
        return End.of_spent(common, self.searched + self.ledger.spent, Spent()) is not None

    def _decided(self) -> list[tuple[int, int]]:
        """(Number, seed) of the trainings of all rounds that are decided, every round's in turn."""
        over = {(r.finalist, r.seed): r for r in self.records if not r.running}

        def outcomes(number: int) -> list[float | None]:
            runs = (over[number, seed] for seed in takewhile(lambda seed: (number, seed) in over, count()))
            return [run.test_error for run in runs]

        results = {c.number: outcomes(c.number) for c in self.candidates}
        most = self.spec.finals.max_seeds
        wanted = race(results, self.spec.finals.seeds, most, LEVEL, 100 / self.data["test"]).wanted
        return [(number, seed) for seed in range(most) for number in wanted if seed < wanted[number]]


def finalist(
    candidate: Candidate, records: Sequence[TrialRecord], run_id: str | None, seed_runs: Mapping[tuple[int, int], str]
) -> Finalist:
    """A candidate with its trainings, which are among the `records`; of their runs in MLflow the ids."""
    own = sorted((r for r in records if r.finalist == candidate.number), key=lambda r: r.seed)
    runs = [
        SeedRun(
            number=record.number,
            seed=record.seed,
            state=record.state,
            epochs=record.epochs,
            train_curve=record.curve,
            test_error=record.test_error,
            test_loss=record.test["loss"] if record.test else None,
            seconds=record.seconds,
            reason=record.reason,
            mlflow_run_id=seed_runs.get((candidate.number, record.seed)),
        )
        for record in own
    ]
    return Finalist(
        number=candidate.number,
        params=without_seed(candidate.spec.flat()),
        runs=tuple(runs),
        label=candidate.label,
        published=candidate.published,
        params_count=own[0].params_count if own else None,
        macs=own[0].macs if own else None,
        latency_ms=own[0].latency_ms if own else None,
        mlflow_run_id=run_id,
        against=candidate.against,
    )


def with_champion(finals: Finals) -> Finals:
    """Names the champion: the cheapest of the finalists that the race has not found worse than another.

    It has lost no training and is better than guessing. Costs that read the same, to two digits, are the same: then the
    lower mean test error decides. None before every finalist has its `seeds` trainings. The training whose weights
    stand for it is that of the median test error, the lower of two: its error is what the mean says, not better by
    choice.
    """
    if any(sum(r.state is not TrialState.RUNNING for r in f.runs) < finals.seeds for f in finals.finalists):
        return finals
    sound = [f for f in finals.finalists if f.tested and all(r.test_error is not None for r in f.runs)]
    raced = verdict(finals)
    able = [f for f in sound if finals.beats_guessing(fmean(f.tested))]
    close = [f for f in able if f.number in (raced.best, *raced.rivals)] or able
    if not close:
        return finals

    def price(finalist: Finalist) -> float:
        cost = finalist.cost(finals.cost)
        return inf if cost is None else float(f"{cost:.1e}")

    best = min(close, key=lambda f: (price(f), fmean(f.tested), f.number))
    order = sorted(best.runs, key=lambda r: (r.test_error or 0.0, r.seed))
    return replace(finals, champion_number=best.number, champion_run=order[(len(order) - 1) // 2].number)


def needed_by_finals(spec: StudySpec, trials: Trials, data: Mapping[str, Any]) -> tuple[int, float]:
    """How many trainings an answer needs, and how many seconds each takes, by the best of the trials so far.

    Those have trained on the training split alone. 0 seconds while no epoch has ended.
    """
    seen = [trial for trial in trials.ranked() if trial.seconds][: spec.finals.top] or [t for t in trials if t.seconds]
    epoch = fmean((trial.seconds or 0.0) / trial.epochs for trial in seen) if seen else 0.0
    images = (data["train"] + data["validation"]) / data["train"]
    return spec.finals.top * spec.finals.seeds, spec.epochs * epoch * images


def plan_finals(
    spec: StudySpec, ledger: Ledger, trials: Trials, data: Mapping[str, Any], searched: Spent | None = None
) -> FinalPlan:
    """The plan of a study's finals: the best of its search take part, or the rows that it compares.

    Args:
        spec: of the study.
        ledger: of its finals.
        trials: of its search; who takes part is known once that is over.
        data: as `StudySummary.data`.
        searched: what the search has spent.
    """
    if spec.compare:
        height, width, channels = data["shape"]
        candidates = compared(spec.rows((height, width, channels), len(data["classes"])), ledger)
    else:
        candidates = best_trials(trials, spec.search.objectives, spec.finals.top)
    return FinalPlan(ledger, candidates, spec, data, searched or Spent())


def final_ledger(
    storage: BaseStorage, search: str, appraise: Callable[[TrialSpec], Appraisal], create: bool = False
) -> Ledger:
    """The records of the finals of a search; of finals that have not begun, unless `create`, empty ones in memory."""
    name = search + Ledger.SUFFIX
    begun = create or name in optuna.get_all_study_names(storage)
    return Ledger(storage if begun else InMemoryStorage(), name, Space((), {}), appraise)


def copied(storage: BaseStorage, search: str) -> Ledger | None:
    """The records of the finals of a search, in a copy, for a ledger mends what it opens; None where there are none."""
    name, copy = search + Ledger.SUFFIX, InMemoryStorage()
    if name not in optuna.get_all_study_names(storage):
        return None
    optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=copy)
    return final_ledger(copy, search, _never_asked)


def _never_asked(spec: TrialSpec) -> Appraisal:
    raise AssertionError(f"nothing is added to a copy: {spec}")
