"""What the report is made of beside the trials: the finals, the study as a whole, and on what it runs."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any, ClassVar, Self

import optuna

from search.machine import hardware, versions
from search.records.ends import Spent
from search.records.gain import Gain
from search.records.trial import Start, TrialState
from search.spec import Objective, PreparedInfo, Share
from search.statistics import Interval, balanced_guess, beats_guessing, effective_images, mean_error_interval


@dataclass(frozen=True)
class SeedRun:
    """A finalist trained once on train + validation and, after its last epoch, tested once. Errors in percent."""

    number: int  # among the runs of the finals, from 0
    seed: int
    state: TrialState  # complete, diverged, failed, infeasible or running; never pruned
    epochs: int  # epochs trained
    train_curve: dict[int, float] = field(default_factory=dict[int, float])  # epoch (from 1) -> training error
    test_error: float | None = None  # of the last epoch, as `Finals.measure` says; None unless complete
    test_loss: float | None = None  # nats
    seconds: float | None = None  # training and testing, without waiting
    reason: str | None = None  # why it did not complete
    mlflow_run_id: str | None = None


@dataclass(frozen=True)
class Finalist:
    """A configuration of the finals: one of the best trials, or one that the study was given to compare."""

    number: int  # of the trial; its place, from 0, in a study that compares
    params: dict[str, Any]  # flat view, without train.seed
    runs: tuple[SeedRun, ...] = ()  # by seed
    label: str | None = None  # what the study calls it; None for a trial of the search
    published: tuple[str, ...] = ()  # keys of published figures that the study itself sets beside it
    params_count: int | None = None
    macs: int | None = None  # multiply-accumulates of one image
    mlflow_run_id: str | None = None
    against: str | None = None  # label of the one that it is compared with; None: the first
    latency_ms: float | None = None  # until an answer is there; None where it is not timed

    @property
    def tested(self) -> tuple[float, ...]:
        """Test errors in percent, by seed."""
        return tuple(r.test_error for r in self.runs if r.test_error is not None)

    @property
    def mean(self) -> float | None:
        """Mean of its test errors in percent; None while there are none."""
        return fmean(self.tested) if self.tested else None

    def cost(self, by: Objective) -> float | None:
        """MACs, parameters, latency, or mean seconds of a training; None where it is not known."""
        match by:
            case Objective.MACS:
                return self.macs
            case Objective.PARAMS:
                return self.params_count
            case Objective.LATENCY_MS:
                return self.latency_ms
            case _:
                seconds = [run.seconds for run in self.runs if run.test_error is not None and run.seconds]
                return fmean(seconds) if seconds else None


@dataclass(frozen=True)
class Finals:
    """The finals of a study as the report shows them."""

    finalists: tuple[Finalist, ...]
    epochs: int  # of each training
    seeds: int  # seeds that every finalist gets
    most_seeds: int  # seeds at the most of one that cannot be told from the best
    level: float  # of the intervals, such as 0.95
    trained_on: int  # images: train and validation together
    tested_on: int  # images
    complete: bool  # nothing is left to run
    compared: bool = False  # the configurations were given: there was no search
    scale: dict[str, tuple[Any, Any]] = field(default_factory=dict[str, tuple[Any, Any]])  # path -> (published, run)
    scale_name: str | None = None  # which of the study's scales
    cost: Objective = Objective.MACS  # by which the cheapest of those that cannot be told apart is chosen
    measure: str = "error"  # which test error is compared: of all images, or the `balanced_error` of the classes
    guess: float | None = None  # test error of who always names the largest class; None where it is not known
    effective: float | None = None  # images that are as sure of a balanced error, see `effective_images`
    champion_number: int | None = None  # of the finalist that is recommended, see `search.optimize.finals`
    champion_run: int | None = None  # number of its run whose weights are exported: of median test error (the lower)

    @property
    def champion(self) -> Finalist | None:
        """The finalist that is recommended; None while none is tested, and where none is better than guessing."""
        return next((f for f in self.finalists if f.number == self.champion_number), None)

    def beats_guessing(self, error: float) -> bool:
        """Whether a test error in percent is below that of guessing, see `statistics`."""
        return beats_guessing(error, self.guess, self.effective or self.tested_on)

    def interval(self, finalist: Finalist) -> Interval | None:
        """Where the mean test error of a finalist lies, in percent; None for fewer than two trainings."""
        return mean_error_interval(finalist.tested, self.level, 100 / self.tested_on)


@dataclass(frozen=True)
class StudySummary:
    """What the report says of the study as a whole."""

    name: str
    description: str
    data: dict[str, Any]  # name, classes, train, validation, test (numbers of images), shape (H, W, C), digest
    space: dict[str, str]  # dotted path -> how it was searched, e.g. "8 | 14 | 20", "0.02 ... 0.5 (log)"
    epochs: int  # epochs of a complete trial
    first_rung: int  # epochs before a trial may be stopped
    trials: int  # how many were asked for
    sampler: str
    scheduler: str
    seed: int
    elapsed_seconds: float  # wall time over all starts of the study
    hardware: str
    versions: dict[str, str]
    objectives: tuple[Objective, ...] = (Objective.VAL_ERROR,)  # what was sought
    limits: dict[str, float | bool] = field(default_factory=dict[str, float | bool])  # only those that were set
    stopped: str | None = None  # why the study ended before `trials`: "time budget of 30m spent"
    finals: Finals | None = None  # None where there are none, or none yet
    finals_asked: bool = False  # whether there are to be finals: without any yet, they are missing
    holds: dict[str, float] = field(default_factory=dict[str, float])  # cpus and gpus of a trial; {}: not known
    finals_hold: dict[str, float] = field(default_factory=dict[str, float])  # of a training of the finals
    starts: tuple[Start, ...] = ()  # what the search began with
    missing_weights: str | None = None  # why no trial started from ImageNet weights though that was asked for
    latency: str = ""  # how it was timed, in words; empty where it was not
    spent: Spent = field(default_factory=Spent)  # on search and finals
    gain: Gain | None = None  # what more search is expected to bring; None where nothing can be said

    @property
    def measure(self) -> str:
        """Which error is sought, as `Finals.measure`."""
        return self.objectives[0].measure

    @property
    def guess(self) -> float | None:
        """Validation error of who always names the largest class; None where it is not known."""
        return self.counted(self.data, "validation", self.measure)[0]

    @property
    def effective(self) -> float:
        """So many images of one law are as sure of an error as the validation images are of the one that is sought."""
        return self.counted(self.data, "validation", self.measure)[1]

    @staticmethod
    def counted(data: Mapping[str, Any], split: str, measure: str) -> tuple[float | None, float]:
        """As `guess` and `effective`, of any split."""
        if measure == "balanced_error":
            counts = data[f"counts_{split}"]
            return balanced_guess(counts), effective_images(counts)
        return data.get(f"guess_{split}"), float(data[split])


@dataclass(frozen=True)
class Environment:
    """On what a study runs. Saved in its storage, so that a report says the same wherever it is made."""

    KEY: ClassVar[str] = "surroundings"  # in the storage

    data: dict[str, Any]  # as `StudySummary.data`
    hardware: str
    versions: dict[str, str]
    holds: dict[str, float]  # cpus and gpus of a trial; {} where that is not known
    finals_hold: dict[str, float]  # of a training of the finals
    began: float  # Unix time of the start that saved it

    @classmethod
    def here(cls, info: PreparedInfo) -> Self:
        """That of this process."""
        return cls(info.summary, hardware(), versions(), {}, {}, time.time())

    @classmethod
    def of(cls, study: optuna.Study) -> Self | None:
        """What the last start of a study has saved; None where nothing was begun."""
        found = study.user_attrs.get(cls.KEY)
        return cls(**found) if found else None

    @classmethod
    def save(cls, study: optuna.Study, info: PreparedInfo, share: Share, finals: bool = False) -> None:
        """Writes that of this process into the storage, with what a trial, or a training of the finals, holds."""
        before, held = cls.of(study), {"cpus": share.cpus, "gpus": share.gpus}
        holds, finals_hold = (before.holds, before.finals_hold) if before else ({}, {})
        of = {"holds": holds if finals else held, "finals_hold": held if finals else finals_hold}
        study.set_user_attr(cls.KEY, asdict(replace(cls.here(info), **of)))
