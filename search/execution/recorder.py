"""Writes down what happens to a trial, in the order that loses nothing: first for MLflow, then in the study."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from search import training
from search.errors import Halted
from search.optimize import Candidate, Course
from search.records import Asked, Finalist, FinalLedger, Finals, Ledger, TrialRecord, TrialState
from search.spec import TrialSpec
from search.statistics import mean_error_interval
from search.tracking import Dataset, Tracker


@dataclass
class Recorder:
    """Takes the reports of workers; safe to be told anything twice.

    A process that dies between two writes repeats them when it continues: events for MLflow carry the time at which the
    worker made them, so that a repetition is the same event.
    """

    study: str  # its name
    strategy: Course
    tracker: Tracker
    trials: Path | str  # path or URL of the folder of the trials' checkpoints

    @property
    def ledger(self) -> Ledger:
        """The study's records."""
        return self.strategy.ledger

    def folder(self, number: int) -> str:
        """Path or URL of the folder in which trial `number` keeps its checkpoints."""
        return f"{self.trials}/{number:04d}"

    def run(self, number: int) -> tuple[int, int | None]:
        """What MLflow knows trial `number` by: number of a trial, and seed of one training of a finalist."""
        return number, None

    def known_epochs(self, number: int) -> int:
        """Epochs of a trial, from the first, that both records have; a power cut may have cost MLflow's the last."""
        return min(self.ledger.record(number).epochs, self.tracker.known_epochs(*self.run(number)))

    def started(self, asked: Asked) -> None:
        """A trial was proposed; its run in MLflow begins."""
        self.tracker.trial_started(
            asked.number,
            name=run_name(asked.number, asked.spec),
            params=asked.spec.mlflow_params(),
            tags={"search.study": self.study, "search.spec_digest": asked.spec.digest},
            trial_json=asked.spec.model_dump_json(indent=2),
        )

    def result(self, result: Mapping[str, Any]) -> bool:
        """Notes one report of a worker, flattened by Tune (`metrics/val/error`); True when it should not go on.

        Raises:
            Halted: the worker cannot write its checkpoints; the trial stays open.
        """
        if "halt" in result:
            raise Halted(result["halt"])
        number = int(result["number"])
        if "failure" in result:
            self.end(number, TrialState(result["failure"]), result["reason"], result.get("traceback"))
            return True
        epoch, diverged = int(result["epoch"]), bool(result["diverged"])
        metrics = {k.removeprefix("metrics/"): float(v) for k, v in result.items() if k.startswith("metrics/")}
        trial, seed = self.run(number)
        self.tracker.epoch(trial, epoch, metrics, int(result["time_ms"]), seed)
        self._note(number, epoch, metrics, diverged)
        if diverged:
            self.end(number, TrialState.DIVERGED, f"loss became infinite or NaN in epoch {epoch}")
        elif result["last"]:
            self.end(number, TrialState.COMPLETE)
        else:
            return self.held(number)
        return True

    def held(self, number: int) -> bool:
        """Whether the scheduler holds the trial where it is; if for good, it ends here."""
        held = self.strategy.judge(number)
        if held and held.final:
            self.end(number, TrialState.PRUNED, held.reason)
        elif held:
            self.strategy.wait(number)
        return held is not None

    def close(self) -> None:
        """No trial will be started or promoted any more: those that wait end where they are."""
        for number in sorted(self.strategy.waiting):
            held = self.strategy.judge(number)
            self.end(number, TrialState.PRUNED, held.reason if held else "the search ended before its turn came")

    def lost(self, number: int, reason: str, detail: str) -> None:
        """The trial's worker died more often than it is started again."""
        self.end(number, TrialState.FAILED, reason, detail)

    def out_of_time(self, reason: str) -> None:
        """The study ends: what still runs is stopped where it is."""
        for record in self.ledger.records:
            if record.running:
                self.end(record.number, TrialState.PRUNED, reason)

    def _note(self, number: int, epoch: int, metrics: Mapping[str, float], diverged: bool) -> None:
        error = math.nan if diverged else metrics["val/error"]
        self.ledger.report(number, epoch, error, metrics["cost/seconds"], metrics["cost/images_per_s"])

    def _best(self, record: TrialRecord) -> dict[str, float]:
        return {"best/val_error": min(record.curve.values())} if record.curve else {}

    def end(self, number: int, state: TrialState, reason: str | None = None, traceback: str | None = None) -> None:
        """A trial is over; one that was already stays as it ended."""
        record = self.ledger.record(number)
        if not record.running:
            return
        metrics = {"cost/params": float(record.params_count or 0), "cost/macs": float(record.macs or 0)}
        weights = training.validated(self.folder(number))
        trial, seed = self.run(number)
        self.tracker.trial_ended(
            trial,
            state,
            reason=reason,
            tags={"search.traceback": traceback} if traceback else {},
            metrics=metrics | self._best(record),
            artifacts=() if weights is None else (weights,),
            seed=seed,
        )
        self.ledger.finish(number, state, reason)


def run_name(number: int, spec: TrialSpec) -> str:
    """Short name of a trial's run, such as `007 depth 20 v2 identity`."""
    net = spec.net
    return f"{number:03d} depth {net.depth} {net.version.value} {net.shortcut.value}"


@dataclass
class FinalRecorder(Recorder):
    """The run of a training is a child of its trial's run; a study that compares has a run for each configuration."""

    finals: FinalLedger
    dataset: Dataset | None  # train and validation together

    def run(self, number: int) -> tuple[int, int | None]:
        """Number of the trial, and seed."""
        record = self.finals.record(number)
        assert record.finalist is not None  # as all in this ledger
        return record.finalist, record.seed

    def compared(self, candidate: Candidate) -> None:
        """Begins the run of a configuration that the study compares."""
        self.tracker.trial_started(
            candidate.number,
            name=f"{candidate.number:03d} {candidate.label}",
            params=candidate.spec.mlflow_params(),
            tags={"search.study": self.study, "search.spec_digest": candidate.spec.digest},
            trial_json=candidate.spec.model_dump_json(indent=2),
        )

    def started(self, asked: Asked) -> None:
        """A training was begun; so does its run in MLflow."""
        trial, seed = self.run(asked.number)
        name = run_name(trial, asked.spec)
        self.tracker.trial_started(
            trial,
            name=f"{name} seed {seed}",
            params=asked.spec.mlflow_params(),
            tags={"search.study": self.study, "search.spec_digest": asked.spec.digest, "search.finalist": name},
            trial_json=asked.spec.model_dump_json(indent=2),
            seed=seed,
            dataset=self.dataset,
        )

    def sum_up(self, finalist: Finalist, finals: Finals) -> None:
        """Writes what a finalist's trainings gave together to its trial's run."""
        errors = finalist.tested
        if errors:
            self.tracker.finalist(finalist.number, len(errors), tested(finalist, finals))
        if finals.compared and finalist.runs and not any(r.state is TrialState.RUNNING for r in finalist.runs):
            state = TrialState.COMPLETE if errors else finalist.runs[0].state
            costs = {"cost/params": float(finalist.params_count or 0), "cost/macs": float(finalist.macs or 0)}
            self.tracker.trial_ended(finalist.number, state, reason=finalist.runs[0].reason, metrics=costs)

    def _note(self, number: int, epoch: int, metrics: Mapping[str, float], diverged: bool) -> None:
        if "test/error" in metrics and not diverged:
            self.finals.note_test(number, metrics["test/error"], metrics["test/loss"])
        error = math.nan if diverged else metrics["train/error"]
        self.ledger.report(number, epoch, error, metrics["cost/seconds"], metrics["cost/images_per_s"])

    def _best(self, record: TrialRecord) -> dict[str, float]:
        return {}


def tested(finalist: Finalist, finals: Finals) -> dict[str, float]:
    """Metrics of a finalist over its seeds, in percent; spread and interval from two seeds on."""
    errors = finalist.tested
    metrics = {"test/error_mean": fmean(errors), "test/seeds": float(len(errors))}
    interval = mean_error_interval(errors, finals.level, 100 / finals.tested_on)
    if interval is not None:
        metrics["test/error_std"] = stdev(errors)
        metrics["test/error_low"], metrics["test/error_high"] = interval.low, interval.high
    return metrics


def of_study(finals: Finals | None, trials: Mapping[str, int]) -> dict[str, float]:
    """Metrics of a study: its champion's, and how many of its trials (`trials`: state -> number) ended in which way."""
    counted = {f"trials/{state}": float(number) for state, number in trials.items() if any(trials.values())}
    return counted | (tested(finals.best, finals) if finals and finals.best else {})
