"""The tracking of a study in MLflow, through a durable outbox and a thread that sends it: never in a trial's way.

The study is the parent run, each trial a child, each training of a finalist a child of its trial. Metrics have the
epoch as step. A run has the status FINISHED for complete, pruned and diverged trials (each an answer about a
configuration; the tag `search.state` tells them apart) and FAILED for failed and infeasible ones, which were never
trained; the tag `search.reason` says why. An interrupted study is KILLED.
"""

import itertools
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from search.errors import without_credentials
from search.records import StudyFolder, TrialState
from search.spec import PreparedInfo, StudySpec
from search.tracking import server
from search.tracking.client import find_or_create, follow, import_quietly, is_remote, is_transient, ready
from search.tracking.outbox import (
    ChampionChosen,
    Cursor,
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
    parse_cursor,
    run_key,
)
from search.tracking.runs import STUDY, RunWriter
from search.tracking.state import RunState, deleted_runs, is_behind, lacks, sent, stored

T = TypeVar("T")

EVENTS_AT_ONCE = 256
GATHER_SECONDS = 1.0  # events that arrive within this time are sent together
FIRST_PAUSE, LAST_PAUSE, HURRIED_PAUSE = 0.1, 10.0, 1.0  # seconds between attempts: doubled up to the last


class TrackingError(RuntimeError):
    """MLflow refused an event, or the sender has a fault: sending has stopped, all events are kept in the outbox."""


class _Closed(Exception):  # noqa: N818 - not an error: how `close` ends a retry
    pass


class Sender:
    """Sends `outbox` to the MLflow experiment `experiment` at `uri`, from a daemon thread started here.

    The thread imports MLflow and prepares the store, which takes seconds: nobody waits for it. A store that is away is
    tried again for as long as it takes; an event that it refuses ends the sending, and `drain` raises.
    """

    def __init__(self, outbox: Outbox, uri: str, experiment: str, study_key: str, artifact_root: str | None) -> None:
        self.outbox = outbox
        self.uri = uri
        self.experiment = experiment
        self.experiment_id: str | None = None  # known once the store has been reached
        self.trouble: str | None = None  # why nothing can be sent at the moment, in one line
        self.runs = dict(outbox.cursor.runs)  # "study" or trial number -> run id
        self._study_key = study_key
        self._deleted: dict[str, str] = {}  # of the runs those that a user has deleted in MLflow
        self._artifact_root = artifact_root
        self._changed = threading.Condition()  # guards the five below; notified of every change
        self._connected = self._news = self._hurry = self._closing = False
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Something has been appended to the outbox."""
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def drain(self, timeout: float, patient: bool = False) -> int:
        """Wait until the store is reached, and has everything; the number of events that it lacks.

        At most `timeout` seconds; if `patient`, as long as it has not been idle for `timeout` seconds. Raises
        TrackingError when sending has stopped for good.
        """
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._await_sent(timeout, patient)
            self._hurry = False
        if self._fault:
            reason = without_credentials(f"{type(self._fault).__name__}: {self._fault}", self.uri)
            error = TrackingError(f"MLflow tracking stopped with {self.outbox.unsent} events unsent: {reason}")
            error.add_note(without_credentials("".join(traceback.format_exception(self._fault)), self.uri))
            raise error
        return self.outbox.unsent

    def _await_sent(self, timeout: float, patient: bool) -> None:
        def over() -> bool:
            return bool(self._fault) or (self._connected and not self.outbox.unsent)

        def reached() -> tuple[bool, int]:
            return self._connected, self.outbox.cursor.offset

        before = None
        while not over() and reached() != before:
            before = reached()
            self._changed.wait_for(lambda now=before: over() or (patient and reached() != now), timeout)

    def close(self, timeout: float) -> None:
        """Stop after the call that is under way, or after `timeout` seconds. What is unsent stays in the outbox."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            writer = self._connect()
            with self._changed:
                self._connected = True
                self._changed.notify_all()
            while not self._closing:
                self._send_pending(writer)
                with self._changed:
                    self._changed.wait_for(lambda: self._news or self._closing)
                    self._changed.wait_for(lambda: self._hurry or self._closing, GATHER_SECONDS)
                    self._news = False
        except _Closed:
            return
        except Exception as error:  # kept for `drain` to raise: a thread has nobody else to tell
            with self._changed:
                self._fault = error
                self._changed.notify_all()

    def _connect(self) -> RunWriter:
        client_type = import_quietly()
        self._attempt(lambda: ready(self.uri, client_type))
        self._attempt(lambda: follow(self.uri, self._artifact_root))
        client = self._attempt(lambda: client_type(self.uri))
        experiment_id = self._attempt(lambda: find_or_create(client, self.experiment, self._artifact_root))
        self.experiment_id = experiment_id
        store = server.store(self.uri, self.experiment)
        if self.outbox.cursor.store != store:
            self._start_over(store)
        states = self._states()
        self._deleted = deleted_runs(states)
        if STUDY in self._deleted:  # a study that goes on is written again, and all of it
            self._deleted.clear()
            self._start_over(store)
        elif lacks(states, self.runs, sent(self.outbox)):  # as a database that was restored from an older copy does
            self._start_over(store)
        self.runs.update(self._deleted)
        return RunWriter(client, experiment_id, self._study_key, self.runs, self._deleted.keys(), self._attempt)

    def _states(self) -> dict[str, RunState]:
        return self._attempt(lambda: stored(self.uri, self.experiment, self._study_key))

    def _start_over(self, store: str) -> None:
        self.runs.clear()
        self.outbox.rewind(store)

    def _write(self, writer: RunWriter, events: list[Event]) -> None:
        """Writes events; a run that its user deletes meanwhile is left out from there on."""
        from mlflow.exceptions import MlflowException

        try:
            writer.write(events)
        except MlflowException:
            deleted = deleted_runs(self._states())
            if STUDY in deleted or deleted.keys() <= self._deleted.keys():
                raise
            self._deleted.update(deleted)
            self._write(writer, events)

    def _send_pending(self, writer: RunWriter) -> None:
        while pending := list(islice(self.outbox.events(self.outbox.cursor.offset), EVENTS_AT_ONCE)):
            self.outbox.sync()
            self._write(writer, [event for event, _ in pending])
            cursor = Cursor(pending[-1][1], self.outbox.cursor.store, dict(self.runs), writer.experiment_id)
            with self._changed:
                self.outbox.commit(cursor, len(pending))
                self._changed.notify_all()

    def _attempt(self, call: Callable[[], T]) -> T:
        """`call`'s result, tried again with growing pauses while the store is away."""
        pause = FIRST_PAUSE
        while not self._closing:
            try:
                result = call()
            except Exception as error:
                if not is_transient(error, is_remote(self.uri)):
                    raise
                self.trouble = " ".join(without_credentials(str(error), self.uri).split())
            else:
                self.trouble = None
                return result
            self._pause(pause)
            pause = min(pause * 2, LAST_PAUSE)
        raise _Closed

    def _pause(self, seconds: float) -> None:
        with self._changed:
            hurry = self._hurry
            # a drain that begins during a long pause ends it
            wake = lambda: self._closing or self._hurry > hurry  # noqa: E731
            self._changed.wait_for(wake, min(seconds, HURRIED_PAUSE) if hurry else seconds)


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


IDLE_SECONDS, HURRIED_SECONDS = 30.0, 5.0  # how long is waited for a server that takes nothing


@dataclass(frozen=True)
class Outboxes:
    """The outboxes in a study's folder, and where they are sent."""

    spec: StudySpec
    info: PreparedInfo
    folder: StudyFolder
    generation: int  # of the study as it is now
    keys: Mapping[int, str]  # generation -> key of the study
    uri: str
    artifact_root: str | None  # of a new experiment; None leaves it to the server

    @property
    def unsent(self) -> int:
        """Events that MLflow has not taken, of all generations."""
        return sum(self._unsent(generation) for generation in range(1, self.generation + 1))

    def last(self, count: int) -> list[Event]:
        """The last events of the study as it is now, sent or not."""
        outbox = Outbox(self.folder.outbox(self.generation))
        try:
            return outbox.last(count)
        finally:
            outbox.close()

    def behind(self, study_too: bool = False) -> bool:
        """Whether MLflow lacks something that it was sent: its database was deleted, or restored from an older copy.

        What a user has deleted there is not missing; with `study_too` a study's run is.
        """
        return any(self._behind(generation, study_too) for generation in range(1, self.generation + 1))

    def tracker(self, generation: int | None = None) -> Tracker:
        """Begins to send; default: of the study as it is now."""
        which = generation or self.generation
        outbox, experiment = Outbox(self.folder.outbox(which), self.folder.forced), self.spec.tracking.experiment
        return Tracker(outbox, self.uri, experiment, self.keys[which], self.artifact_root)

    def announce(self, tracker: Tracker) -> None:
        """The study starts, or goes on."""
        params = {path: str(value) for path, value in self.spec.flat().items()}
        tracker.study_started(self.spec.name, params, dataset=self.dataset())

    def dataset(self, finals: bool = False) -> Dataset:
        """What trials are trained on, or finalists: train and validation together."""
        info = self.info
        shape = " x ".join(map(str, info.shape))
        splits = {"train": info.n_train, "validation": info.n_validation}
        trained = {"train + validation": sum(splits.values())} if finals else splits
        name = info.name.rpartition(":")[0] or info.name
        profile = {**trained, "test": info.n_test, "shape": shape}
        named = {"name": f"{name} finals", "context": "train + validation"} if finals else {"name": name}
        return Dataset(digest=info.digest[:32], source=info.name, profile=profile, **named)

    def send_earlier(self) -> str | None:
        """Sends what is left of the studies before this one; why it could not be sent, or None."""
        trouble = None
        for generation in range(1, self.generation):
            if self._unsent(generation) or self._behind(generation):
                tracker = self.tracker(generation)
                trouble = send(tracker, patient=True) or trouble
                tracker.close()
        return trouble

    def _behind(self, generation: int, study_too: bool = False) -> bool:
        outbox = Outbox(self.folder.outbox(generation))
        try:
            return is_behind(outbox, self.uri, self.spec.tracking.experiment, self.keys[generation], study_too)
        finally:
            outbox.close()

    def _unsent(self, generation: int) -> int:
        outbox = Outbox(self.folder.outbox(generation))
        try:
            return outbox.unsent
        finally:
            outbox.close()


def tracked_at(folder: Path, store: str) -> bool:
    """Whether a study in this folder has been tracked in `store`, as `server.store` names it."""
    return any(parse_cursor(path.read_bytes()).store == store for path in folder.glob("outbox*.cursor.json"))


def send(tracker: Tracker, patient: bool) -> str | None:
    """Waits until MLflow has everything; why it has not. If not `patient`, for seconds at most."""
    try:
        left = tracker.drain(IDLE_SECONDS if patient else HURRIED_SECONDS, patient)
    except TrackingError as refused:
        return str(refused)
    return f"MLflow has not taken {left} events ({tracker.trouble() or 'it is slow'})" if left else None
