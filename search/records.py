"""What a finished (or running) study is made of, free of Ray, Optuna and MLflow: the input of the report."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# Told by a worker that has a share of a GPU: no way to end, for the trial is tried again with a whole one.
OUT_OF_SHARE = "out_of_share"


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
    mlflow_run_id: str | None = None

    @property
    def val_error(self) -> float | None:
        """Validation error at the last epoch trained; None when no epoch ended."""
        return self.curve[max(self.curve)] if self.curve else None


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
    stopped: str | None = None  # why the study ended before `trials`: "time budget of 30m spent"
