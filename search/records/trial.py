"""One trial, as the study's storage holds it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isfinite
from typing import Any, ClassVar, Self

import optuna

from search.spec import Objective
from search.statistics import standard_error


class TrialState(StrEnum):
    """How a trial ended. `running` never appears in a finished study."""

    COMPLETE = "complete"  # reached the study's number of epochs
    PRUNED = "pruned"  # stopped early by the scheduler or by the time budget
    FAILED = "failed"  # raised
    INFEASIBLE = "infeasible"  # cannot be trained here: out of memory, limits exceeded
    DIVERGED = "diverged"  # loss became NaN or infinite
    RUNNING = "running"


@dataclass(frozen=True)
class Start:
    """A configuration that a search tries before it proposes any, and where it comes from, in words."""

    KEY: ClassVar[str] = "starts"  # in the storage

    chosen: dict[str, Any]  # by dotted path
    source: str

    @classmethod
    def of(cls, study: optuna.Study) -> tuple[Self, ...]:
        """The starts that are stored in the study."""
        return tuple(cls(**start) for start in study.user_attrs.get(cls.KEY, ()))


def now_ms() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Metrics:
    """What was measured at one time. Values may be NaN or infinite."""

    time_ms: int  # Unix time, by the clock of who measured
    values: Mapping[str, float]

    @classmethod
    def now(cls, values: Mapping[str, float]) -> Self:
        """Measured now."""
        return cls(now_ms(), values)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """As `stored` has them."""
        return cls(stored["time_ms"], {name: float(value) for name, value in stored["values"].items()})

    @property
    def stored(self) -> dict[str, Any]:
        """As they are written into a storage: what is not finite as text, for which JSON has no number."""
        values = {name: value if isfinite(value) else str(value) for name, value in self.values.items()}
        return {"time_ms": self.time_ms, "values": values}


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the study's storage holds it. Errors in percent, time in seconds."""

    WORST: ClassVar[float] = 100.0  # percent: what a diverged trial is worth as evidence
    MEMORY: ClassVar[str] = "memory"  # the constraint that a trial violates which ran out of memory

    number: int
    state: TrialState
    params: dict[str, Any]  # flat view of the specification: "net.depth" -> 20; only fields that have an effect
    epochs: int  # epochs trained
    curve: dict[int, float] = field(default_factory=dict[int, float])  # epoch (from 1) -> validation error
    metrics: dict[int, Metrics] = field(default_factory=dict[int, Metrics], compare=False)  # epoch (from 1) -> reported
    began: int = field(default=0, compare=False, repr=False)  # Unix time in ms
    ended: int | None = field(default=None, compare=False, repr=False)  # likewise
    reason: str | None = None  # why it stopped before its last epoch, or failed
    traceback: str | None = None  # of a failed one
    weights: str | None = None  # the file of its last weights, relative to the study's place
    params_count: int | None = None
    macs: int | None = None  # multiply-accumulates of one image
    seconds: float | None = None  # training and validation, without waiting
    images_per_s: float | None = None  # of training, mean over its seconds
    violation: float | None = None  # how far it is beyond the study's limits; above 0: it cannot be trained
    exceeded: tuple[str, ...] = ()  # the limits that it is beyond
    out_of_memory: bool = False  # it was started, and needed more memory than there is
    finalist: int | None = None  # whose training it is, in the finals
    test: dict[str, float] | None = None  # errors (percent) and loss (nats) on the test split; a finalist's run alone
    measure: str = "error"  # which of the errors on the test split is compared: `error`, or `balanced_error`
    latency_ms: float | None = None  # until an answer is there, before training; None where it is not timed
    mlflow_run_id: str | None = None

    @classmethod
    def of(cls, frozen: optuna.trial.FrozenTrial) -> Self:
        """A trial of the storage."""
        attributes: dict[str, Any] = frozen.user_attrs
        price = attributes["cost"]
        record = cls(
            number=frozen.number,
            state=TrialState.RUNNING,
            params=attributes["params"],
            epochs=0,
            began=attributes["began"],
            params_count=price["params"],
            macs=price["macs"],
            latency_ms=price.get("latency_ms"),
            violation=max(frozen.constraints.values(), default=None),
            exceeded=tuple(k for k, excess in frozen.constraints.items() if excess > 0 and k != cls.MEMORY),
            out_of_memory=cls.MEMORY in frozen.constraints,
            finalist=attributes.get("finalist"),
            measure=attributes.get("measure", "error"),
        )
        for epoch, error in sorted(frozen.intermediate_values.items()):
            record = record.with_epoch(epoch, error, Metrics.of(attributes[f"epoch:{epoch}"]))
        return record.with_outcome(attributes["outcome"]) if "outcome" in attributes else record

    def with_epoch(self, epoch: int, error: float, metrics: Metrics) -> Self:
        """The record with one epoch more."""
        values = metrics.values
        test = {name.removeprefix("test/"): value for name, value in values.items() if name.startswith("test/")}
        before, seconds = self.seconds or 0.0, values["cost/seconds"]
        images = (self.images_per_s or 0.0) * before + values["cost/images_per_s"] * seconds
        return replace(
            self,
            curve={**self.curve, epoch: error},
            metrics={**self.metrics, epoch: metrics},
            epochs=epoch,
            test=test if test and all(map(isfinite, test.values())) else self.test,
            seconds=before + seconds,
            images_per_s=images / (before + seconds) if before + seconds else None,
        )

    def with_outcome(self, stored: Mapping[str, Any]) -> Self:
        """The record of a trial that is over, as `stored` says."""
        texts = {name: stored.get(name) for name in ("reason", "traceback", "weights")}
        return replace(self, state=TrialState(stored["state"]), ended=stored["time_ms"], **texts)

    @property
    def running(self) -> bool:
        """Whether it is not over, at work or waiting to be promoted."""
        return self.state is TrialState.RUNNING

    @property
    def seed(self) -> int:
        """Of its training."""
        return int(self.params["train.seed"])

    @property
    def ranked(self) -> bool:
        """Whether it has a place in the ranking: it was trained to its end, or stopped on the way, with a result."""
        return self.state in (TrialState.COMPLETE, TrialState.PRUNED) and self.measured is not None

    @property
    def beyond(self) -> bool:
        """Whether it is beyond the study's limits, or needed more memory than there is."""
        return (self.violation or 0) > 0

    @property
    def refused(self) -> bool:
        """Whether it was beyond the study's limits and never started."""
        return self.state is TrialState.INFEASIBLE and bool(self.violation) and not (self.out_of_memory or self.curve)

    @property
    def finished(self) -> bool:
        """Whether it was started and is over."""
        return not self.running and not self.refused

    @property
    def val_error(self) -> float | None:
        """Validation error, the one that is sought, at the last epoch trained; None when no epoch ended."""
        return self.curve[max(self.curve)] if self.curve else None

    @property
    def test_error(self) -> float | None:
        """What it is compared by, of a finalist's run; None where it is not tested."""
        return self.test[self.measure] if self.test else None

    @property
    def measured(self) -> float | None:
        """Validation error at the last epoch; None where it is missing, NaN or infinite."""
        error = self.val_error
        return error if error is not None and isfinite(error) else None

    @property
    def result(self) -> float | None:
        """As `measured`, but None for a trial that failed or diverged: what it had before counts for nothing."""
        return self.measured if self.ranked or self.running else None

    @property
    def finite_curve(self) -> dict[int, float]:
        """Epoch -> validation error, without the epochs where it was NaN or infinite."""
        return {epoch: error for epoch, error in self.curve.items() if isfinite(error)}

    @property
    def lowest(self) -> float | None:
        """Lowest validation error at any epoch; None where no epoch has a finite one."""
        return min(self.finite_curve.values(), default=None)

    def margin(self, images: float) -> float:
        """Points within which its error on so many images is not told from another's: its standard error.

        No image wrong has standard error 0, which knows nothing of the images not drawn; there it is 3 / n, at most 1,
        the upper end of the 95 % interval (Hanley and Lippman-Hand, JAMA 1983, "If nothing goes wrong, is everything
        all right?").
        """
        error = self.measured or 0.0
        return min(300 / images, 100.0) if error == 0 else standard_error(error, images)

    def objective(self, objective: Objective) -> float | None:
        """What was measured of it, in its own unit (percent, numbers, seconds); None where nothing was."""
        match objective:
            case Objective.VAL_ERROR | Objective.VAL_BALANCED_ERROR:
                value = self.val_error
            case Objective.MACS:
                value = self.macs
            case Objective.PARAMS:
                value = self.params_count
            case Objective.IMAGES_PER_S:
                value = self.images_per_s
            case Objective.SECONDS:
                value = self.seconds
            case Objective.LATENCY_MS:
                value = self.latency_ms
        return None if value is None or not isfinite(value) else float(value)

    def cost(self, objective: Objective) -> float | None:
        """As `objective`, so that less is better."""
        value = self.objective(objective)
        return -value if value is not None and objective is Objective.IMAGES_PER_S else value
