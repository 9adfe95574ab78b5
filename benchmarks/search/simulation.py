"""A search in simulated time: asynchronous workers that train as fast as learning curves can be looked up.

The players are the product's own Searcher and Scheduler for Ray Tune, and Ray's; only the workers are simulated.
"""

import heapq
import math
from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

import optuna
from optuna.storages import InMemoryStorage
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from benchmarks.search.learning_curves import EPOCHS, SPACE, Training
from search.execution.recorder import Recorder
from search.execution.tuner import LedgerScheduler, LedgerSearcher, Loop, Restarts
from search.optimize import Proposer, Strategy, make_scheduler
from search.optimize.schedulers import Halving
from search.records import Asked, Ledger, Standings
from search.spec import Appraisal, Dimension, SearchSpec, Space, TrialSpec, Value

METRIC = "error"


@dataclass(frozen=True)
class Configuration:
    """Takes the place of a TrialSpec: what is trained, as flat values."""

    values: Mapping[str, Value]

    def flat(self) -> Mapping[str, Value]:
        return self.values

    @property
    def digest(self) -> str:
        return repr(sorted(self.values.items()))


class Hyperparameters(Space):
    """LCBench's space instead of networks."""

    def specify(self, chosen: Mapping[str, Value]) -> TrialSpec:
        return cast(TrialSpec, Configuration(chosen))


class Player(Protocol):
    """A search as Ray Tune sees it."""

    def suggest(self, trial_id: str) -> tuple[int, Mapping[str, Any]] | None:
        """A number that names a training, to begin or to continue, and its configuration; None when there is none."""
        ...

    def result(self, trial_id: str, epoch: int, error: float, seconds: float) -> bool:
        """Told after every epoch; True when the training stops here."""
        ...


@dataclass(frozen=True)
class OneEpochTopK(Halving):
    """All of `trials` train one epoch; the best `top` then train to the end. One epoch often says little.

    Args:
        trials: that begin.
        top: how many train to the end.
    """

    trials: int
    top: int

    @property
    def rungs(self) -> tuple[int, ...]:
        return (1,)

    def hold(self, number: int, standings: Standings) -> str | None:
        trial = standings[number]
        if trial.epochs != 1:
            return None
        return f"rank {1 + bisect_left(standings.at(1), (trial.curve[1],))} after 1 epoch"

    def promote(self, standings: Standings, waiting: Collection[int]) -> int | None:
        if len(standings) < self.trials or any(r.running and not r.curve for r in standings):
            return None
        return next((number for _, number in standings.at(1)[: self.top] if number in waiting), None)


class Ours:
    """The product's search, with its own scheduler or another."""

    def __init__(self, search: SearchSpec, workers: int, scheduler: Halving | None = None) -> None:
        space = Hyperparameters(tuple(Dimension(name, d, {}) for name, d in SPACE.items()), {})
        free = Appraisal(0, 0, 0, {}, None)
        ledger = Ledger(InMemoryStorage(), "simulated", space, lambda spec: free)
        proposer = Proposer(space, search.sampler, search.seed)
        strategy = Strategy(ledger, proposer, scheduler or make_scheduler(search, EPOCHS), search, EPOCHS)
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

    def result(self, trial_id: str, epoch: int, error: float, seconds: float) -> bool:
        told = {
            "number": self._numbers[trial_id],
            "epoch": epoch,
            "diverged": False,
            "last": epoch == EPOCHS,
            "time_ms": 0,
            "metrics/val/error": error,
            "metrics/cost/seconds": seconds,
            "metrics/cost/images_per_s": 1.0,
        }
        decision = self._scheduler.on_trial_result(None, cast(Trial, None), told)
        over = decision == TrialScheduler.STOP
        if over:
            self._searcher.on_trial_complete(trial_id, told)
        return over


class _Recorder(Recorder):
    def started(self, asked: Asked) -> None:
        """No run is begun, for nothing is tracked."""


def _config(asked: Asked) -> dict[str, Any]:
    return {"number": asked.number, "values": asked.spec.flat()}


@dataclass
class Rays:
    """Ray's own searcher and scheduler, wired as its documentation shows."""

    sampler: optuna.samplers.BaseSampler
    scheduler: AsyncHyperBandScheduler | FIFOScheduler
    _numbers: dict[str, Trial] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._searcher = OptunaSearch(dict(SPACE), metric=METRIC, mode="min", sampler=self.sampler)
        self.scheduler.set_search_properties(METRIC, "min")

    def suggest(self, trial_id: str) -> tuple[int, Mapping[str, Any]] | None:
        values = self._searcher.suggest(trial_id)
        if not isinstance(values, dict) or values == Searcher.FINISHED:
            return None
        trial = cast(Trial, SimpleNamespace(trial_id=trial_id))
        self._numbers[trial_id] = trial
        self.scheduler.on_trial_add(cast(Any, None), trial)
        return len(self._numbers) - 1, values

    def result(self, trial_id: str, epoch: int, error: float, seconds: float) -> bool:
        told = {"training_iteration": epoch, METRIC: error}
        trial = self._numbers[trial_id]
        if epoch < EPOCHS:
            over = self.scheduler.on_trial_result(cast(Any, None), trial, told) == TrialScheduler.STOP
        else:
            over = True
        if not over:
            self._searcher.on_trial_result(trial_id, told)
            return False
        self.scheduler.on_trial_complete(cast(Any, None), trial, told)
        self._searcher.on_trial_complete(trial_id, told)
        return True


def simulate(player: Player, task: int, until: float, workers: int, timed: bool) -> list[tuple[float, float]]:
    """Lets a search run until that time; (time, lowest error so far) whenever that falls.

    An epoch takes one unit of time; with `timed`, as many seconds as LCBench's machine took.
    """
    trainings: dict[int, Training] = {}
    lengths: dict[int, float] = {}
    events: list[tuple[float, int, str, int]] = []  # end of an epoch, for the order of equal ones, trial, training
    best, trace, begun, idle, now = math.inf, [], 0, workers, 0.0

    def train(trial_id: str, number: int, order: int) -> None:
        heapq.heappush(events, (now + lengths[number], order, trial_id, number))

    while True:
        while idle and (suggested := player.suggest(str(begun))):
            number, configuration = suggested
            if number not in trainings:
                trainings[number] = Training(task, configuration)
                lengths[number] = trainings[number].seconds() if timed else 1.0
            train(str(begun), number, begun)
            begun, idle = begun + 1, idle - 1
        if not events or events[0][0] > until:
            return trace
        now, order, trial_id, number = heapq.heappop(events)
        error = trainings[number].step()
        if error < best:
            best = error
            trace.append((now, best))
        if player.result(trial_id, trainings[number].epoch, error, lengths[number]):
            idle += 1
        else:
            train(trial_id, number, order)
