"""Writes into the ledger what happens to a trial."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search import training
from search.errors import Halted
from search.optimize import Plan, title
from search.records import End, Ledger, Metrics, Spent, TrialState
from search.spec import TrialSpec


@dataclass
class Recorder:
    """Takes the reports of workers, any of them twice."""

    plan: Plan
    trials: Path | str  # the folder of the checkpoints, in that of the study; a path or a URL
    weights: Callable[[TrialSpec], str | None] = lambda _: None  # path or URL of those that a training starts from
    _end: End | None = field(default=None, init=False)  # as it was written down

    @property
    def ledger(self) -> Ledger:
        """The records of what is trained."""
        return self.plan.ledger

    def folder(self, number: int) -> str:
        """Path or URL of the folder in which trial `number` keeps its checkpoints."""
        return f"{self.trials}/{number:04d}"

    def title(self, number: int) -> str:
        """What trial `number` is called."""
        return title(self.ledger.record(number), self.plan.candidates)

    def begin(self) -> None:
        """A stage begins, or goes on."""
        self.ledger.save_numbers({c.spec.digest: c.number for c in self.plan.candidates if c.label is not None})

    def is_ended(self, spent: Spent, kept: Spent) -> bool:
        """Whether no further epoch begins; of a search the reason is written down. Arguments as of `Plan.end`."""
        end = self.plan.end(spent, kept)
        if end != self._end and not self.plan.final:
            self._end = end
            if end is not None and end != self.ledger.course.ended:
                self.ledger.save_end(end)
        return end is not None

    def result(self, result: Mapping[str, Any]) -> bool:
        """Takes one report of a worker: the epochs since the one before, in order. True when it should not go on.

        `done`: none of the trainings that the worker trains together is left.

        Raises:
            Halted: the worker cannot write its checkpoints; the trial stays open.
        """
        held = False
        for epoch in result["epochs"]:
            held = self._epoch(**epoch)
        if "halt" in result:
            raise Halted(result["halt"])
        if "failure" in result:
            self.end(int(result["number"]), TrialState(result["failure"]), result["reason"], result.get("traceback"))
        return held or bool(result["done"])

    def _epoch(
        self, number: int, epoch: int, metrics: Mapping[str, float], diverged: bool, last: bool, time_ms: int
    ) -> bool:
        """Records an epoch; True when its training is held after it."""
        new = epoch not in self.ledger.record(number).curve  # else it was trained again, from a checkpoint before it
        error = math.nan if diverged else metrics[self.plan.metric]
        self.ledger.report(number, epoch, error, Metrics(time_ms, metrics))
        if diverged:
            self.end(number, TrialState.DIVERGED, f"loss became infinite or NaN in epoch {epoch}")
        elif last:
            self.end(number, TrialState.COMPLETE)
        else:
            return new and self.plan.hold(number)
        return False

    def close(self) -> None:
        """No trial will be started or promoted any more: those that are open end where they are."""
        for ending in self.plan.endings():
            self.end(*ending)

    def end(self, number: int, state: TrialState, reason: str | None = None, traceback: str | None = None) -> None:
        """A trial is over; one that was already stays as it ended."""
        record = self.ledger.record(number)
        if not record.running:
            return
        weights = training.validated_weights(self.folder(number), record.epochs)
        relative = weights and weights.removeprefix(str(self.trials).removesuffix(Path(self.trials).name))
        self.ledger.finish(number, state, reason, traceback, relative)
