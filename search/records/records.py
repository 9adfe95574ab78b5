"""What a study is made of: its trials, its finals and its surroundings, for the report."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from statistics import fmean
from typing import Any, Self

import optuna

from search.machine import hardware, versions
from search.spec import Objective, PreparedInfo, SearchSpec, Share
from search.statistics import Interval, mean_error_interval

# Told by a worker that has a share of a GPU: no way to end, for the trial is tried again with a whole one.
OUT_OF_SHARE = "out_of_share"
WORST = 100.0  # percent: what a diverged trial is worth as evidence


class TrialState(StrEnum):
    """How a trial ended. `running` never appears in a finished study."""

    COMPLETE = "complete"  # reached the study's number of epochs
    PRUNED = "pruned"  # stopped early by the scheduler or by the time budget
    FAILED = "failed"  # raised
    INFEASIBLE = "infeasible"  # cannot be trained here: out of memory, limits exceeded
    DIVERGED = "diverged"  # loss became NaN or infinite
    RUNNING = "running"


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the study's storage holds it. Errors in percent, time in seconds."""

    number: int
    state: TrialState
    params: dict[str, Any]  # flat view of the specification: "net.depth" -> 20; only fields that have an effect
    epochs: int  # epochs trained
    curve: dict[int, float] = field(default_factory=dict)  # epoch (from 1) -> validation error
    reason: str | None = None  # why it stopped before its last epoch, or failed
    params_count: int | None = None
    macs: int | None = None  # multiply-accumulates of one image
    seconds: float | None = None  # training and validation, without waiting
    images_per_s: float | None = None  # of training, mean over its seconds
    violation: float | None = None  # how far it is beyond the study's limits; above 0: it cannot be trained
    exceeded: tuple[str, ...] = ()  # the limits that it is beyond
    out_of_memory: bool = False  # it was started, and needed more memory than there is
    origin: int | None = None  # its number in the study from which it was taken over
    finalist: int | None = None  # whose training it is, in the finals
    test: dict[str, float] | None = None  # error (percent) and loss (nats) on the test split; a finalist's run alone
    mlflow_run_id: str | None = None

    @property
    def running(self) -> bool:
        """Whether it is not over, at work or waiting to be promoted."""
        return self.state is TrialState.RUNNING

    @property
    def refused(self) -> bool:
        """Whether it was beyond the study's limits and never started."""
        return self.state is TrialState.INFEASIBLE and bool(self.violation) and not (self.out_of_memory or self.curve)

    def error_at(self, epoch: int) -> float | None:
        """Validation error at an epoch, `WORST` for a trial that diverged before it; None when it was not reached."""
        if self.state is TrialState.DIVERGED and epoch > self.epochs:
            return WORST
        return self.curve.get(epoch)

    @property
    def val_error(self) -> float | None:
        """Validation error at the last epoch trained; None when no epoch ended."""
        return self.curve[max(self.curve)] if self.curve else None

    @cached_property
    def averages(self) -> dict[int, float]:
        """Epoch -> mean of the validation errors up to it, as far as every epoch has one."""
        errors = (self.curve[epoch] for epoch in itertools.takewhile(self.curve.__contains__, itertools.count(1)))
        return {epoch: total / epoch for epoch, total in enumerate(itertools.accumulate(errors), 1)}


@dataclass(frozen=True)
class SeedRun:
    """A finalist trained once on train + validation and, after its last epoch, tested once. Errors in percent."""

    number: int  # among the runs of the finals, from 0
    seed: int
    state: TrialState  # complete, diverged, failed, infeasible or running; never pruned
    epochs: int  # epochs trained
    train_curve: dict[int, float] = field(default_factory=dict)  # epoch (from 1) -> training error
    test_error: float | None = None  # of the last epoch; None unless complete
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

    @property
    def tested(self) -> tuple[float, ...]:
        """Test errors in percent, by seed."""
        return tuple(r.test_error for r in self.runs if r.test_error is not None)

    @property
    def mean(self) -> float | None:
        """Mean of its test errors in percent; None while there are none."""
        return fmean(self.tested) if self.tested else None


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
    scale: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # path -> (as published, as run)
    scale_name: str | None = None  # which of the study's scales
    champion: int | None = None  # number of the finalist with the lowest mean test error; None while none is tested
    champion_run: int | None = None  # number of its run whose weights are exported: of median test error (the lower)

    @property
    def best(self) -> Finalist | None:
        """The champion; None while there is none."""
        return next((f for f in self.finalists if f.number == self.champion), None)

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
    limits: dict[str, int | bool] = field(default_factory=dict)  # only those that were set
    stopped: str | None = None  # why the study ended before `trials`: "time budget of 30m spent"
    finals: Finals | None = None  # None where there are none, or none yet
    finals_asked: bool = False  # whether there are to be finals: without any yet, they are missing
    holds: dict[str, float] = field(default_factory=dict)  # what a trial held: cpus, gpus; {} where it is not known
    finals_hold: dict[str, float] = field(default_factory=dict)  # likewise a training of the finals


_NOTE = "surroundings"  # of the study in its storage


@dataclass(frozen=True)
class Surroundings:
    """On what a study runs. Noted in its storage, so that a report says the same wherever it is made."""

    data: dict[str, Any]  # as `StudySummary.data`
    hardware: str
    versions: dict[str, str]
    holds: dict[str, float]  # cpus and gpus of a trial; {} where that is not known
    finals_hold: dict[str, float]  # of a training of the finals
    began: float  # Unix time of the start that noted them

    @classmethod
    def here(cls, info: PreparedInfo) -> Self:
        """Those of this process."""
        return cls(described(info), hardware(), versions(), {}, {}, time.time())


def described(info: PreparedInfo) -> dict[str, Any]:
    """As `StudySummary.data`."""
    return {
        "name": info.name,
        "classes": list(info.classes),
        "train": info.n_train,
        "validation": info.n_validation,
        "test": info.n_test,
        "shape": list(info.shape),
        "digest": info.digest,
    }


def note(study: optuna.Study, info: PreparedInfo, share: Share, finals: bool = False) -> None:
    """Writes those of this process into the storage, with what a trial, or a training of the finals, holds."""
    before, held = noted(study), {"cpus": share.cpus, "gpus": share.gpus}
    holds, finals_hold = (before.holds, before.finals_hold) if before else ({}, {})
    now = replace(Surroundings.here(info), holds=holds if finals else held, finals_hold=held if finals else finals_hold)
    study.set_user_attr(_NOTE, asdict(now))


def noted(study: optuna.Study) -> Surroundings | None:
    """What the last start of a study has noted; None where nothing was begun."""
    found = study.user_attrs.get(_NOTE)
    return Surroundings(**found) if found else None


def finished(records: Sequence[TrialRecord]) -> int:
    """Trials that are over, but for refused ones and those of the study before it."""
    return sum(not r.running and not r.refused and r.origin is None for r in records)


def over(search: SearchSpec, records: Sequence[TrialRecord], elapsed: float, exhausted: str | None) -> bool:
    """Whether a search has nothing left to run, after so many seconds; `exhausted`: why nothing is left to propose."""
    enough = finished(records) >= search.trials or exhausted is not None
    return not any(r.running for r in records) and (enough or _spent(search, elapsed))


def stopped(search: SearchSpec, records: Sequence[TrialRecord], elapsed: float, exhausted: str | None) -> str | None:
    """Why there are fewer trials than were asked for; as `over`."""
    if finished(records) >= search.trials:
        return None
    return f"time budget of {search.time_budget:g} s spent" if _spent(search, elapsed) else exhausted


def _spent(search: SearchSpec, elapsed: float) -> bool:
    return search.time_budget is not None and elapsed >= search.time_budget
