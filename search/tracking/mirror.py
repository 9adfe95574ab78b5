"""The tracking of a study in MLflow, through a durable outbox and a thread that sends it: never in a trial's way."""

import itertools
import threading
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from search.errors import without_credentials
from search.records import StudyFolder
from search.spec import PreparedInfo, StudySpec
from search.tracking.events import (
    STUDY,
    ChampionChosen,
    Dataset,
    EpochEnded,
    Event,
    FinalistSummed,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
    of_seeds,
    of_trials,
    run_key,
)
from search.tracking.outbox import Cursor, Outbox
from search.tracking.state import deleted_runs, is_behind, lacks, sent, stored
from search.tracking.store import Store, follow, is_transient

if TYPE_CHECKING:
    from search.tracking.runs import RunWriter

T = TypeVar("T")

EVENTS_AT_ONCE = 256
GATHER_SECONDS = 1.0  # events that arrive within this time are sent together
FIRST_PAUSE, LAST_PAUSE, HURRIED_PAUSE = 0.1, 10.0, 1.0  # seconds between attempts: doubled up to the last
IDLE_SECONDS, HURRIED_SECONDS = 30.0, 5.0  # how long is waited for a server that takes nothing


class TrackingError(RuntimeError):
    """MLflow refused an event, or the sender has a fault: sending has stopped, all events are kept in the outbox."""


class _Closed(Exception):  # noqa: N818 - not an error: how `close` ends a retry
    pass


class Sender:
    """Sends `outbox` to `store`, from a daemon thread started here.

    The thread imports MLflow and prepares the store, which takes seconds: nobody waits for it. A store that is away is
    tried again for as long as it takes; an event that it refuses ends the sending, and `drain` raises.
    """

    def __init__(self, outbox: Outbox, store: Store, study_key: str) -> None:
        self.experiment_id: str | None = None  # known once the store has been reached
        self.trouble: str | None = None  # why nothing can be sent at the moment, in one line
        self._outbox = outbox
        self._store = store
        self._study_key = study_key
        self._runs = dict(outbox.cursor.runs)  # name -> run id
        self._deleted: dict[str, str] = {}  # of the runs those that a user has deleted in MLflow
        self._changed = threading.Condition()  # guards the five below; notified of every change
        self._connected = self._news = self._hurry = self._closing = False
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def run_ids(self) -> dict[int, str]:
        """Trial number -> MLflow run id, of the trials whose start has been sent."""
        return of_trials(dict(self._runs))

    def seed_run_ids(self) -> dict[tuple[int, int], str]:
        """(Trial number, seed) -> MLflow run id, of the trainings of finalists whose start has been sent."""
        return of_seeds(dict(self._runs))

    def study_run_id(self) -> str | None:
        """The parent run's id, once its start has been sent."""
        return self._runs.get(STUDY)

    def notify(self) -> None:
        """Something has been appended to the outbox."""
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def send(self, patient: bool) -> str | None:
        """Waits until MLflow has everything; why it has not. If not `patient`, for seconds at most."""
        try:
            left = self.drain(IDLE_SECONDS if patient else HURRIED_SECONDS, patient)
        except TrackingError as refused:
            return str(refused)
        return f"MLflow has not taken {left} events ({self.trouble or 'it is slow'})" if left else None

    def drain(self, timeout: float, patient: bool = False) -> int:
        """Waits until the store is reached, and has everything; the number of events that it lacks.

        At most `timeout` seconds; if `patient`, as long as it has not been idle for `timeout` seconds. Raises
        TrackingError when sending has stopped for good.
        """
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._await_sent(timeout, patient)
            self._hurry = False
        if self._fault:
            reason = without_credentials(f"{type(self._fault).__name__}: {self._fault}", self._store.uri)
            error = TrackingError(f"MLflow tracking stopped with {self._outbox.unsent} events unsent: {reason}")
            error.add_note(without_credentials("".join(traceback.format_exception(self._fault)), self._store.uri))
            raise error
        return self._outbox.unsent

    def _await_sent(self, timeout: float, patient: bool) -> None:
        def over() -> bool:
            return bool(self._fault) or (self._connected and not self._outbox.unsent)

        def reached() -> tuple[bool, int]:
            return self._connected, self._outbox.cursor.offset

        before = None
        while not over() and reached() != before:
            before = reached()
            self._changed.wait_for(lambda now=before: over() or (patient and reached() != now), timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Stops after the call that is under way, or after `timeout` seconds. What is unsent stays in the outbox."""
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

    def _connect(self) -> "RunWriter":
        from search.tracking import client, runs  # noqa: PLC0415  MLflow takes seconds: in this thread

        store = self._store
        self._attempt(lambda: client.ready(store.uri))
        self._attempt(lambda: follow(store))
        service = self._attempt(lambda: client.connect(store.uri))
        experiment_id = self._attempt(lambda: client.find_or_create(service, store.experiment, store.root))
        self.experiment_id = experiment_id
        if self._outbox.cursor.store != str(store):
            self._start_over()
        states = self._attempt(lambda: stored(store, self._study_key))
        self._deleted = deleted_runs(states)
        if STUDY in self._deleted:  # a study that goes on is written again, and all of it
            self._deleted.clear()
            self._start_over()
        elif lacks(states, self._runs, sent(self._outbox)):  # as a database that was restored from an older copy does
            self._start_over()
        self._runs.update(self._deleted)
        deleted = self._deleted.keys()
        return runs.RunWriter(service, experiment_id, self._study_key, self._runs, deleted, self._attempt)

    def _start_over(self) -> None:
        self._runs.clear()
        self._outbox.rewind(str(self._store))

    def _write(self, writer: "RunWriter", events: list[Event]) -> None:
        """Writes events; a run that its user deletes meanwhile is left out from there on."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415  MLflow takes seconds: in the sender's thread

        try:
            writer.write(events)
        except MlflowException:
            deleted = deleted_runs(self._attempt(lambda: stored(self._store, self._study_key)))
            if STUDY in deleted or deleted.keys() <= self._deleted.keys():
                raise
            self._deleted.update(deleted)
            self._write(writer, events)

    def _send_pending(self, writer: "RunWriter") -> None:
        while pending := list(islice(self._outbox.events(self._outbox.cursor.offset), EVENTS_AT_ONCE)):
            self._outbox.sync()
            self._write(writer, [event for event, _ in pending])
            cursor = Cursor(pending[-1][1], self._outbox.cursor.store, dict(self._runs), writer.experiment_id)
            with self._changed:
                self._outbox.commit(cursor, len(pending))
                self._changed.notify_all()

    def _attempt(self, call: Callable[[], T]) -> T:
        """`call`'s result, tried again with growing pauses while the store is away."""
        pause = FIRST_PAUSE
        while not self._closing:
            try:
                result = call()
            except Exception as error:
                if not is_transient(error, self._store.remote):
                    raise
                self.trouble = " ".join(without_credentials(str(error), self._store.uri).split())
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


class Tracker(Sender):
    """Records a study's events in `outbox`, from which they are sent.

    `study_key` identifies the study across starts and machines: its runs are found again by it. It belongs to one
    process, the driver, and cannot be pickled.
    """

    def __init__(self, outbox: Outbox, store: Store, study_key: str) -> None:
        self._dataset: Dataset | None = None
        self._epochs: set[tuple[str, int]] = set()  # (run, epoch)
        self._ended_at: dict[str, int] = {}  # an end without its time -> its time
        for event, _ in outbox.events():
            self._remember(event)
        super().__init__(outbox, store, study_key)

    def record(self, event: Event) -> None:
        """Returns once the event is in the outbox; raises OSError when the disk does not take it.

        What is told again after a crash is not doubled: a known epoch is left out, and an end keeps its first time.
        """
        match event:
            case StudyStarted():
                self._dataset = event.dataset
            case TrialStarted(dataset=None):
                event = event.model_copy(update={"dataset": self._dataset})
            case EpochEnded() if (event.run, event.epoch) in self._epochs:
                return
            case TrialEnded() | FinalistSummed() | ChampionChosen() | StudyEnded():
                event = event.model_copy(update={"time_ms": self._ended_at.get(_but_time(event), event.time_ms)})
            case _:
                pass
        self._outbox.append(event)
        self._remember(event)
        self.notify()

    def known_epochs(self, number: int, seed: int | None = None) -> int:
        """How many epochs of a trial, or of a training of a finalist, are recorded, from the first without a gap."""
        run = run_key(number, seed)
        return next(epoch for epoch in itertools.count() if (run, epoch + 1) not in self._epochs)

    def _remember(self, event: Event) -> None:
        if isinstance(event, EpochEnded):
            self._epochs.add((event.run, event.epoch))
        elif isinstance(event, TrialEnded | FinalistSummed | ChampionChosen | StudyEnded):
            self._ended_at.setdefault(_but_time(event), event.time_ms)


def _but_time(event: Event) -> str:
    return event.model_dump_json(exclude={"time_ms"})


@dataclass(frozen=True)
class Outboxes:
    """The outbox in a study's folder, and where it is sent."""

    spec: StudySpec
    info: PreparedInfo
    folder: StudyFolder
    key: str  # of the study
    store: Store

    @property
    def unsent(self) -> int:
        """Events that MLflow has not taken."""
        with closing(Outbox(self.folder.outbox)) as outbox:
            return outbox.unsent

    def last(self, count: int) -> list[Event]:
        """The last events, sent or not."""
        with closing(Outbox(self.folder.outbox)) as outbox:
            return outbox.last(count)

    def behind(self, study_too: bool = False) -> bool:
        """Whether MLflow lacks something that it was sent: its database was deleted, or restored from an older copy.

        What a user has deleted there is not missing; with `study_too` a study's run is.
        """
        with closing(Outbox(self.folder.outbox)) as outbox:
            return is_behind(outbox, self.store, self.key, study_too)

    def tracker(self) -> Tracker:
        """Begins to send."""
        return Tracker(Outbox(self.folder.outbox, self.folder.forced), self.store, self.key)

    def announce(self, tracker: Tracker) -> None:
        """The study starts, or goes on."""
        params = {path: str(value) for path, value in self.spec.flat().items()}
        tracker.record(StudyStarted(name=self.spec.name, params=params, dataset=self.dataset()))

    def dataset(self, finals: bool = False) -> Dataset:
        """What trials are trained on, or finalists: train and validation together."""
        info = self.info
        splits = {"train": info.n_train, "validation": info.n_validation}
        trained = {"train + validation": sum(splits.values())} if finals else splits
        profile = {**trained, "test": info.n_test, "shape": " x ".join(map(str, info.shape))}
        name = info.name.rpartition(":")[0] or info.name
        named = {"name": f"{name} finals", "context": "train + validation"} if finals else {"name": name}
        return Dataset(digest=info.digest[:32], source=info.name, profile=profile, **named)
