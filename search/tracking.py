"""The tracking of a study in MLflow, through a durable outbox and a thread that sends it: never in a trial's way.

The study is the parent run, each trial a child, each training of a finalist a child of its trial. Metrics have the
epoch as step. A run has the status FINISHED for complete, pruned and diverged trials (each an answer about a
configuration; the tag `search.state` tells them apart) and FAILED for failed and infeasible ones, which were never
trained; the tag `search.reason` says why. An interrupted study is KILLED.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from search.outbox import (
    ChampionChosen,
    Dataset,
    EpochEnded,
    Event,
    FinalistSummed,
    Outbox,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
    of_seeds,
    of_trials,
    run_key,
)
from search.records import TrialState
from search.redact import without_credentials
from search.tracking_sender import Sender, TrackingError
from search.tracking_store import STUDY

__all__ = ["Dataset", "Outbox", "Tracker", "TrackingError"]


E = TypeVar("E", TrialEnded, FinalistSummed, ChampionChosen, StudyEnded)


class Tracker:
    """Records a study's events in `outbox`, which a thread sends to the MLflow experiment `experiment` at `uri`.

    `study_key` identifies the study across starts and machines: its runs are found again by it. `artifact_root` is
    where a new experiment keeps its artifacts; None leaves that to the server. Methods that record an event return
    once it is in the outbox and raise OSError when the disk does not take it. Times are Unix milliseconds, default now.
    It belongs to one process, the driver, and cannot be pickled.
    """

    def __init__(
        self, outbox: Outbox, uri: str, experiment: str, study_key: str, artifact_root: str | None = None
    ) -> None:
        self._outbox = outbox
        self._dataset: Dataset | None = None
        self._epochs: set[tuple[str, int]] = set()  # (run, epoch)
        self._ended_at: dict[str, int] = {}  # an end without its time -> its time
        for event, _ in outbox.events():
            self._remember(event)
        self._sender = Sender(outbox, uri, experiment, study_key, artifact_root)

    def study_started(
        self,
        name: str,
        params: Mapping[str, str],
        tags: Mapping[str, str] | None = None,
        dataset: Dataset | None = None,
        time_ms: int | None = None,
    ) -> None:
        """At every start of the study, the first and each that continues it. Trials are logged with its data set."""
        self._dataset = dataset
        self._record(
            StudyStarted(time_ms=_now(time_ms), name=name, params=_clean(params), tags=_clean(tags), dataset=dataset)
        )

    def trial_started(
        self,
        number: int,
        name: str,
        params: Mapping[str, str],
        tags: Mapping[str, str] | None = None,
        trial_json: str | None = None,
        time_ms: int | None = None,
        seed: int | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        """At each start of a trial; a trial that is continued keeps its run. With `seed`, of a training of a finalist.

        `dataset` is what it is trained on; default: what the study is.
        """
        self._record(
            TrialStarted(
                time_ms=_now(time_ms),
                number=number,
                seed=seed,
                name=name,
                params=_clean(params),
                tags=_clean(tags),
                trial_json=trial_json,
                dataset=dataset or self._dataset,
            )
        )

    def epoch(
        self,
        number: int,
        epoch: int,
        metrics: Mapping[str, float],
        time_ms: int | None = None,
        seed: int | None = None,
    ) -> None:
        """One epoch, counted from 1. An epoch recorded before, ahead of a crash, is not recorded again."""
        event = EpochEnded(time_ms=_now(time_ms), number=number, seed=seed, epoch=epoch, metrics=dict(metrics))
        if (event.run, epoch) not in self._epochs:
            self._record(event)

    def known_epochs(self, number: int, seed: int | None = None) -> int:
        """How many epochs of a trial, or of a training of a finalist, are recorded, from the first without a gap."""
        run = run_key(number, seed)
        return next(epoch for epoch in itertools.count() if (run, epoch + 1) not in self._epochs)

    def finalist(self, number: int, seeds: int, metrics: Mapping[str, float]) -> None:
        """What `seeds` trainings of a finalist gave together: metrics of its trial's run, with that step."""
        event = FinalistSummed(time_ms=_now(None), number=number, seeds=seeds, metrics=dict(metrics))
        self._record(self._first_time(event))

    def trial_ended(
        self,
        number: int,
        state: TrialState,
        reason: str | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        artifacts: tuple[Path | str, ...] = (),
        time_ms: int | None = None,
        seed: int | None = None,
    ) -> None:
        """The end of a trial, with what is measured once. Artifacts: files, by path or URL, that exist till sent."""
        event = TrialEnded(
            time_ms=_now(time_ms),
            number=number,
            seed=seed,
            state=state,
            reason=None if reason is None else without_credentials(reason),
            tags=_clean(tags),
            metrics=dict(metrics or {}),
            artifacts=[str(path) for path in artifacts],
        )
        self._record(self._first_time(event))

    def study_ended(
        self,
        note: str,
        state: Literal["complete", "interrupted", "failed"] = "complete",
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
        artifacts: tuple[Path | str, ...] = (),
        front: tuple[int, ...] = (),
        time_ms: int | None = None,
    ) -> None:
        """The end of this start of the study, with the answer in Markdown and the trials on the Pareto front.

        Metrics are given with a `step` that no earlier end had, or with the same values.
        """
        event = StudyEnded(
            time_ms=_now(time_ms),
            state=state,
            note=without_credentials(note),
            front=list(front),
            tags=_clean(tags),
            metrics=dict(metrics or {}),
            step=step,
            artifacts=[str(path) for path in artifacts],
        )
        self._record(self._first_time(event))

    def champion(self, number: int, seed: int, folder: str, tested: Sequence[float]) -> None:
        """The training of a finalist that is the study's answer, and the folder in which it was exported."""
        event = ChampionChosen(time_ms=_now(None), number=number, seed=seed, folder=folder, tested=list(tested))
        self._record(self._first_time(event))

    def run_ids(self) -> dict[int, str]:
        """Trial number -> MLflow run id, of the trials whose start has been sent."""
        return of_trials(dict(self._sender.runs))

    def seed_run_ids(self) -> dict[tuple[int, int], str]:
        """(Trial number, seed) -> MLflow run id, of the trainings of finalists whose start has been sent."""
        return of_seeds(dict(self._sender.runs))

    def study_run_id(self) -> str | None:
        """The parent run's id, once its start has been sent."""
        return self._sender.runs.get(STUDY)

    def experiment_id(self) -> str | None:
        """The experiment's id, once the store has been reached."""
        return self._sender.experiment_id

    def trouble(self) -> str | None:
        """Why nothing can be sent at the moment, in one line; None when all is well."""
        return self._sender.trouble

    def drain(self, timeout: float, patient: bool = False) -> int:
        """Wait until the store is reached and everything is sent; the number of events that are not.

        At most `timeout` seconds; if `patient`, as long as the store has not been idle for `timeout` seconds. Raises
        TrackingError when sending has stopped for good.
        """
        return self._sender.drain(timeout, patient)

    def close(self, timeout: float = 5.0) -> None:
        """Stop sending, after the call that is under way or `timeout` seconds. What is unsent stays in the outbox."""
        self._sender.close(timeout)

    def _record(self, event: Event) -> None:
        self._outbox.append(event)
        self._remember(event)
        self._sender.notify()

    def _remember(self, event: Event) -> None:
        if isinstance(event, EpochEnded):
            self._epochs.add((event.run, event.epoch))
        elif isinstance(event, TrialEnded | FinalistSummed | ChampionChosen | StudyEnded):
            self._ended_at.setdefault(_but_time(event), event.time_ms)

    def _first_time(self, event: E) -> E:
        """An end told again after a crash keeps its first time, so that its metrics are not logged twice."""
        return event.model_copy(update={"time_ms": self._ended_at.get(_but_time(event), event.time_ms)})


def _now(time_ms: int | None) -> int:
    return time.time_ns() // 1_000_000 if time_ms is None else time_ms


def _clean(values: Mapping[str, str] | None) -> dict[str, str]:
    return {key: without_credentials(value) for key, value in (values or {}).items()}


def _but_time(event: TrialEnded | FinalistSummed | ChampionChosen | StudyEnded) -> str:
    return event.model_dump_json(exclude={"time_ms"})
