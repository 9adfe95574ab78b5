"""A search in simulated time: asynchronous workers that train as fast as learning curves can be looked up.

The players are the product's own Searcher and Scheduler for Ray Tune, and Ray's; only the workers are simulated.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

import optuna
from optuna.storages import InMemoryStorage
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from benchmarks.search.problems import Problem
from search.execution.recorder import Recorder
from search.execution.tuner import LedgerScheduler, LedgerSearcher, Loop, Restarts
from search.optimize import Proposer, Strategy, make_scheduler
from search.records import Asked, Ledger
from search.spec import Appraisal, SearchSpec

METRIC = "error"
WORST = 100.0  # percent


class Player(Protocol):
    """A search as Ray Tune sees it."""

    def suggest(self, trial_id: str) -> tuple[int, Mapping[str, Any]] | None:
        """A number that names a training, to begin or to continue, and its configuration; None when there is none."""
        ...

    def result(self, trial_id: str, epoch: int, error: float) -> bool:
        """Told after every epoch; NaN: it diverged. True when the training stops here."""
        ...


class Table(Proposer):
    """Proposes rows of a table, each once."""

    finite = True  # pyright: ignore[reportAssignmentType]


class Ours:
    """The product's search, with what was good on other problems first, or without."""

    def __init__(self, search: SearchSpec, problem: Problem, workers: int, starts: bool) -> None:
        self._epochs = problem.epochs
        free = Appraisal(0, 0, 0, {}, None)
        ledger = Ledger(InMemoryStorage(), "simulated", problem.space, lambda spec: free)
        proposer = (Table if problem.rows else Proposer)(
            problem.space, search.sampler, search.seed, starts=problem.starts() if starts else ()
        )
        strategy = Strategy(ledger, proposer, make_scheduler(search, problem.epochs), search, problem.epochs)
        if strategy._model is not None:
            strategy._model._axes = problem.axes()
        self.strategy = strategy
        self._recorder = _Recorder(strategy, Path("/nonexistent"))
        loop = Loop()
        self._searcher = LedgerSearcher(self._recorder, _config, workers, loop, Restarts(set))
        self._scheduler = LedgerScheduler(self._recorder, loop)
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> tuple[int, Mapping[str, Any]] | None:
        config = self._searcher.suggest(trial_id)
        if not isinstance(config, dict):
            return None
        self._numbers[trial_id] = config["number"]
        return config["number"], config["values"]

    def result(self, trial_id: str, epoch: int, error: float) -> bool:
        metrics = {"val/error": error, "cost/seconds": 1.0, "cost/images_per_s": 1.0}
        last = epoch == self._epochs or math.isnan(error)
        number, diverged = self._numbers[trial_id], math.isnan(error)
        ended = {"number": number, "epoch": epoch, "metrics": metrics, "diverged": diverged, "last": last, "time_ms": 0}
        report = {"number": number, "epochs": [ended], "done": last}
        decision = self._scheduler.on_trial_result(None, cast(Trial, None), report)
        over = decision == TrialScheduler.STOP
        if over:
            self._searcher.on_trial_complete(trial_id, report)
        return over


class _Recorder(Recorder):
    def started(self, asked: Asked) -> None:
        """No run is begun, for nothing is tracked."""


def _config(together: Sequence[Asked]) -> dict[str, Any]:
    (asked,) = together
    return {"number": asked.number, "values": asked.spec.flat()}


@dataclass
class Rays:
    """Ray's own searcher and scheduler, wired as its documentation shows."""

    problem: Problem
    sampler: optuna.samplers.BaseSampler
    scheduler: AsyncHyperBandScheduler
    _numbers: dict[str, Trial] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._searcher = OptunaSearch(dict(self.problem.distributions), metric=METRIC, mode="min", sampler=self.sampler)
        self.scheduler.set_search_properties(METRIC, "min")

    def suggest(self, trial_id: str) -> tuple[int, Mapping[str, Any]] | None:
        values = self._searcher.suggest(trial_id)
        if not isinstance(values, dict) or values == Searcher.FINISHED:
            return None
        trial = cast(Trial, SimpleNamespace(trial_id=trial_id))
        self._numbers[trial_id] = trial
        self.scheduler.on_trial_add(cast(Any, None), trial)
        return len(self._numbers) - 1, values

    def result(self, trial_id: str, epoch: int, error: float) -> bool:
        diverged = math.isnan(error)
        report = {"training_iteration": epoch, METRIC: WORST if diverged else error}
        trial = self._numbers[trial_id]
        if epoch < self.problem.epochs and not diverged:
            over = self.scheduler.on_trial_result(cast(Any, None), trial, report) == TrialScheduler.STOP
        else:
            over = True
        if not over:
            self._searcher.on_trial_result(trial_id, report)
            return False
        self.scheduler.on_trial_complete(cast(Any, None), trial, report)
        self._searcher.on_trial_complete(trial_id, report)
        return True


def simulate(player: Player, problem: Problem, until: float, workers: int) -> list[tuple[float, float]]:
    """Runs a search until the time `until`; an epoch takes one unit of time.

    Returns (time, lowest error so far), one pair for each time that the lowest error falls.
    """
    trainings: dict[int, Iterator[float]] = {}
    done: dict[int, int] = {}  # epochs
    events: list[tuple[float, int, str, int]] = []  # end of an epoch, for the order of equal ones, trial, training
    best, trace, begun, idle, now = math.inf, [], 0, workers, 0.0
    while True:
        while idle and (suggested := player.suggest(str(begun))):
            number, values = suggested
            if number not in trainings:
                trainings[number], done[number] = problem.train(values), 0
            heapq.heappush(events, (now + 1, begun, str(begun), number))
            begun, idle = begun + 1, idle - 1
        if not events or events[0][0] > until:
            return trace
        now, order, trial_id, number = heapq.heappop(events)
        error = next(trainings[number], math.nan)
        done[number] += 1
        if error < best:
            best = error
            trace.append((now, best))
        if player.result(trial_id, done[number], error):
            idle += 1
        else:
            heapq.heappush(events, (now + 1, order, trial_id, number))
