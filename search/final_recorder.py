"""What happens to a training of a finalist, written down as `recorder` does for a trial."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from search.final_ledger import FinalLedger
from search.finals import SEED, Candidate
from search.ledger import Asked
from search.recorder import Recorder, run_name
from search.records import Finalist, Finals, TrialRecord, TrialState
from search.statistics import mean_error_interval
from search.tracking import Dataset


@dataclass
class FinalRecorder(Recorder):
    """The run of a training is a child of its trial's run; a study that compares has a run for each configuration."""

    finals: FinalLedger
    dataset: Dataset | None  # train and validation together

    def run(self, number: int) -> tuple[int, int | None]:
        """Number of the trial, and seed."""
        record = self.finals.record(number)
        assert record.finalist is not None  # as all in this ledger
        return record.finalist, int(record.params[SEED])

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
