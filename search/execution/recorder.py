"""Writes down what happens to a trial, in the order that loses nothing: first for MLflow, then in the ledger."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from search import training
from search.errors import Halted
from search.optimize import Plan, title
from search.records import Asked, Finalist, Finals, Ledger, TrialState
from search.spec import TrialSpec
from search.tracking import Tracker, events


@dataclass
class Recorder:
    """Takes the reports of workers, any of them twice.

    A process that dies between two writes repeats them when it continues: events for MLflow carry the time at which the
    worker made them, so that a repetition is the same event.

    A trial has a run in MLflow; a training of the finals has one below that of its trial, or of what is compared.
    """

    study: str  # its name
    plan: Plan
    tracker: Tracker
    trials: Path | str  # path or URL of the folder of the checkpoints
    dataset: events.Dataset | None = None  # of a training of the finals: train and validation together

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

    def known_epochs(self, number: int) -> int:
        """Epochs of a trial, from the first, that both records have; a power cut may have cost MLflow's the last."""
        return min(self.ledger.record(number).epochs, self.tracker.known_epochs(*self._run(number)))

    def begin(self) -> None:
        """A stage begins, or goes on; so do the runs of the configurations that the study compares."""
        compared = [c for c in self.plan.candidates if c.label is not None]
        self.ledger.save_numbers({c.spec.digest: c.number for c in compared})
        for candidate in compared:
            self._started(candidate.number, candidate.spec, f"{candidate.number:03d} {candidate.label}")

    def started(self, asked: Asked) -> None:
        """A trial was proposed, or a training was begun; so does its run in MLflow."""
        number, seed = self._run(asked.number)
        net = asked.spec.net
        name = f"{number:03d} depth {net.depth} {net.version.value} {net.shortcut.value}"
        if seed is None:
            self._started(number, asked.spec, name)
        else:
            self._started(number, asked.spec, f"{name} seed {seed}", seed, {"search.finalist": name})

    def result(self, result: Mapping[str, Any]) -> bool:
        """Takes one report of a worker, flattened by Tune (`metrics/val/error`); True when it should not go on.

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
        run, seed = self._run(number)
        at = int(result["time_ms"])
        self.tracker.record(events.EpochEnded(number=run, seed=seed, epoch=epoch, metrics=metrics, time_ms=at))
        if "test/error" in metrics and not diverged:
            self.ledger.note_test(number, metrics["test/error"], metrics["test/loss"])
        error = math.nan if diverged else metrics["train/error" if self.plan.final else "val/error"]
        self.ledger.report(number, epoch, error, metrics["cost/seconds"], metrics["cost/images_per_s"])
        if diverged:
            self.end(number, TrialState.DIVERGED, f"loss became infinite or NaN in epoch {epoch}")
        elif result["last"]:
            self.end(number, TrialState.COMPLETE)
        else:
            return self.held(number)
        return True

    def held(self, number: int) -> bool:
        """Whether the plan holds the trial where it is."""
        held = self.plan.judge(number) is not None
        if held:
            self.plan.wait(number)
        return held

    def close(self) -> None:
        """No trial will be started or promoted any more: those that are open end where they are."""
        for ending in self.plan.endings():
            self.end(*ending)

    def end(self, number: int, state: TrialState, reason: str | None = None, traceback: str | None = None) -> None:
        """A trial is over; one that was already stays as it ended."""
        record = self.ledger.record(number)
        if not record.running:
            return
        metrics = costs(record.params_count, record.macs)
        if record.curve and not self.plan.final:
            metrics["best/val_error"] = min(record.curve.values())
        weights = training.validated_weights(self.folder(number))
        run, seed = self._run(number)
        self.tracker.record(
            events.TrialEnded(
                number=run,
                seed=seed,
                state=state,
                reason=reason,
                tags={"search.traceback": traceback} if traceback else {},
                metrics=metrics,
                artifacts=() if weights is None else (weights,),
            )
        )
        self.ledger.finish(number, state, reason)

    def _run(self, number: int) -> tuple[int, int | None]:
        """What MLflow knows trial `number` by: number of a trial, and seed of one training of a finalist."""
        record = self.ledger.record(number)
        return (number, None) if record.finalist is None else (record.finalist, record.seed)

    def _started(
        self, number: int, spec: TrialSpec, name: str, seed: int | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        self.tracker.record(
            events.TrialStarted(
                number=number,
                seed=seed,
                name=name,
                params=spec.mlflow_params(),
                tags={"search.study": self.study, "search.spec_digest": spec.digest, **(tags or {})},
                trial_json=spec.model_dump_json(indent=2),
                dataset=None if seed is None else self.dataset,
            )
        )


def costs(params: int | None, macs: int | None) -> dict[str, float]:
    """Metrics of a network."""
    return {"cost/params": float(params or 0), "cost/macs": float(macs or 0)}


def sum_up(tracker: Tracker, finals: Finals) -> None:
    """Writes what each finalist's trainings gave together to its trial's run."""
    for finalist in finals.finalists:
        number, errors = finalist.number, finalist.tested
        if errors:
            summed = events.FinalistSummed(number=number, seeds=len(errors), metrics=tested(finalist, finals))
            tracker.record(summed)
        if finals.compared and finalist.runs and not any(r.state is TrialState.RUNNING for r in finalist.runs):
            first = finalist.runs[0]
            state = TrialState.COMPLETE if errors else first.state
            metrics = costs(finalist.params_count, finalist.macs)
            tracker.record(events.TrialEnded(number=number, state=state, reason=first.reason, metrics=metrics))


def tested(finalist: Finalist, finals: Finals) -> dict[str, float]:
    """Metrics of a finalist over its seeds, in percent; spread and interval from two seeds on."""
    errors = finalist.tested
    metrics = {"test/error_mean": fmean(errors), "test/seeds": float(len(errors))}
    interval = finals.interval(finalist)
    if interval is not None:
        metrics["test/error_std"] = stdev(errors)
        metrics["test/error_low"], metrics["test/error_high"] = interval.low, interval.high
    return metrics


def of_study(finals: Finals | None, trials: Mapping[str, int]) -> dict[str, float]:
    """Metrics of a study: its champion's, and how many of its trials (`trials`: state -> number) ended in which way."""
    counted = {f"trials/{state}": float(number) for state, number in trials.items() if any(trials.values())}
    return counted | (tested(finals.champion, finals) if finals and finals.champion else {})
