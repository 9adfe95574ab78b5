"""A search in simulated time: the product's own searcher, scheduler, strategy and storage; only training is made up.

Nothing of Ray runs and nothing is tracked. A worker takes one second an epoch, more for larger batches, and continues a
trial as a real one does: what its checkpoint knows and the study does not is told, not trained again.
"""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search.execution.recorder import Recorder
from search.execution.tuner import LedgerScheduler, LedgerSearcher, Loop, Restarts
from search.optimize import Proposer, Strategy, make_scheduler
from search.records import Asked, Ledger, Start, Trials, open_storage
from search.spec import Appraisal, Sampler, Scheduler, SearchSpec, Space, TrialSpec, Value
from search.spec.space import make

FIXED: dict[str, Any] = {"net.in_channels": 1, "net.num_classes": 10, "net.depth": 8, "train.nesterov": False}
# Four levels: version decides whether there is a choice of shortcuts, that whether dropout has a rate, that of mixup.
SPACE: dict[str, Any] = {
    "net.version": ["v1", "v2"],
    "net.shortcut": {"choices": ["identity", "dropout"], "when": {"net.version": "v2"}},
    "net.dropout": [0.2, 0.5],
    "train.mixup": {"choices": [0.1, 0.3], "when": {"net.dropout": 0.5}},
    "train.lr": [0.01, 0.03, 0.1, 0.3],
    "train.batch_size": [16, 32, 64],
}
SIZE = (1 + (1 + (1 + 2))) * 4 * 3  # v1; v2: identity, or dropout of 0.2, or of 0.5 with two alphas
EPOCHS = 4  # of a short study: rungs after 1 and 2
Fate = float | tuple[str, str]  # of an epoch: its error in percent, or how the trial ends instead and why


def curve(flat: Mapping[str, Value], epoch: int) -> Fate:
    """Errors that fall at different rates and cross; one corner diverges, one fails, one does not fit into memory."""
    lr, batch, mixup = float(flat["train.lr"]), int(flat["train.batch_size"]), float(flat["train.mixup"])
    if lr > 0.2 and batch == 16 and epoch > 1:
        return math.nan
    if lr < 0.02 and batch == 64 and flat["net.version"] == "v2":
        return "failed", "it broke"
    if mixup > 0.2 and batch == 64:
        return "infeasible", "out of memory"
    lowest = 3 * abs(math.log(lr / 0.1)) + 2 * (flat["net.version"] == "v1") + batch / 32 + 4 * mixup
    return lowest + 40 * (0.4 + 0.4 * (lr / 0.3) ** 0.2 * math.exp(-mixup)) ** epoch


def free(spec: TrialSpec) -> Appraisal:
    """No limit; costs by arithmetic, for the real ones take milliseconds."""
    return Appraisal(spec.net.depth * 1000, spec.net.depth * 10_000, 1, {}, None)


@dataclass(frozen=True)
class Setting:
    """What a study says, and what becomes of its trials."""

    search: SearchSpec
    epochs: int = 9
    section: Mapping[str, Any] = field(default_factory=lambda: SPACE)
    starts: tuple[Start, ...] = ()
    appraise: Callable[[TrialSpec], Appraisal] = free
    fate: Callable[[Mapping[str, Value], int], Fate] = curve

    @property
    def space(self) -> Space:
        """What is searched."""
        return make(self.section, FIXED | {"train.epochs": self.epochs})


def opened(setting: Setting, where: Path | BaseStorage) -> Recorder:
    """The study in this folder or storage, as a process finds it when it starts."""
    search = setting.search
    storage = open_storage(where / "optuna.journal") if isinstance(where, Path) else where
    ledger = Ledger(storage, "study", setting.space, setting.appraise)
    proposer = Proposer(ledger._space, search.sampler, search.seed, setting.starts)
    strategy = Strategy(ledger, proposer, make_scheduler(search, setting.epochs), search, setting.epochs)
    return Recorder(strategy, Path("/nonexistent"))


class Process:
    """A process that runs the study with so many workers."""

    def __init__(self, setting: Setting, where: Path | BaseStorage, workers: int) -> None:
        self.setting, self.recorder = setting, opened(setting, where)
        loop = Loop()
        self._searcher = LedgerSearcher(self.recorder, _config, workers, loop, Restarts(set))
        self._scheduler = LedgerScheduler(self.recorder, loop)
        self._events: list[tuple[float, int, dict[str, Any]]] = []  # when a result is told, of which start
        self._flat: dict[int, Mapping[str, Value]] = {}  # start -> what is trained
        self._now = 0.0

    def step(self) -> bool:
        """Trials are handed out, and the next result of a worker is told; False when there is none."""
        while isinstance(config := self._searcher.suggest(str(len(self._flat))), dict):
            start, epoch = len(self._flat), self.recorder.ledger.record(config["number"]).epochs
            self._flat[start] = config["flat"]
            known = self._told(start, config["number"], epoch) if epoch else None
            if known and known["done"]:  # it died before the ending was on record
                heapq.heappush(self._events, (self._now, start, known))
            else:
                self._train(start, config["number"], epoch + 1)
        if not self._events:
            return False
        self._now, start, told = heapq.heappop(self._events)
        over = told["done"]
        if not over:
            decision = self._scheduler.on_trial_result(None, cast(Trial, None), told)
            over = decision == TrialScheduler.STOP
        if over:
            self._searcher.on_trial_complete(str(start), told)
        else:
            self._train(start, told["number"], told["epochs"][-1]["epoch"] + 1)
        return True

    def _train(self, start: int, number: int, epoch: int) -> None:
        seconds = 1 + int(self._flat[start]["train.batch_size"]) / 100
        heapq.heappush(self._events, (self._now + seconds, start, self._told(start, number, epoch)))

    def _told(self, start: int, number: int, epoch: int) -> dict[str, Any]:
        fate = self.setting.fate(self._flat[start], epoch)
        if isinstance(fate, tuple):
            return {"number": number, "epochs": [], "failure": fate[0], "reason": fate[1], "done": True}
        last = math.isnan(fate) or epoch == self.setting.epochs
        metrics = {"val/error": fate, "cost/seconds": 0.5, "cost/images_per_s": 100.0}
        told = {"number": number, "epoch": epoch, "metrics": metrics, "diverged": math.isnan(fate), "last": last}
        told["time_ms"] = 0
        return {"number": number, "epochs": [told], "done": last}


def _config(together: Sequence[Asked]) -> dict[str, Any]:
    (asked,) = together
    return {"number": asked.number, "flat": asked.spec.flat()}


def play(setting: Setting, where: Path | BaseStorage, workers: int = 1, anew: bool = False) -> Trials:
    """The study from where it is to its end; `anew`: by a new process after every result."""
    process = Process(setting, where, workers)
    while process.step():
        if anew:
            process = Process(setting, where, workers)
    process.recorder.close()
    return process.recorder.ledger.records


def short(sampler: Sampler, scheduler: Scheduler, **changes: Any) -> Setting:
    """Enough trials that a model has its say, with rungs after 1 and 2 of 4 epochs; with auto, two starts."""
    given: dict[str, Any] = {"trials": 20, "first_rung": 1, "reduction": 2, "seed": 3}
    search = SearchSpec(sampler=sampler, scheduler=scheduler, **{**given, **changes})
    setting = Setting(search, EPOCHS)
    if sampler is not Sampler.AUTO:
        return setting
    first = islice(setting.space.combinations(values=True), 2)
    return replace(setting, starts=tuple(Start(chosen, "given") for chosen in first))


def stored(where: Path | BaseStorage) -> optuna.Study:
    """The study as Optuna alone reads it."""
    if isinstance(where, Path):
        where = JournalStorage(JournalFileBackend(str(where / "optuna.journal")))
    return optuna.load_study(study_name="study", storage=where)
