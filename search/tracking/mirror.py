"""MLflow as a mirror of a study's records: one thread sends what MLflow lacks, never in a trial's way."""

import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from search.errors import without_credentials
from search.tracking.cursor import STUDY, Cursor
from search.tracking.shown import CONCLUSION, STATUS, Shown, Source
from search.tracking.store import Store, follow, is_transient
from search.tracking.stored import RunState, active_runs, deleted_runs, stored

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from search.tracking.runs import RunWriter

T = TypeVar("T")

LOOK_SECONDS = 1.0  # how often the records are looked at, and the cursor is saved at most
FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0  # seconds between attempts: doubled up to the last
HEAD_START = 10.0  # seconds for which the first epoch is waited for
PATIENCE, HURRY = 30.0, 5.0  # seconds for which a server that takes nothing is waited for


class TrackingError(RuntimeError):
    """MLflow refused something, or the mirror has a fault: sending has stopped until the next start."""


class _Closed(Exception):  # noqa: N818 - not an error: how `close` ends a retry
    pass


class Mirror:
    """Compares a study's records with what MLflow has, by a cursor in its folder.

    From `start` to `close` a daemon thread sends the difference. Once the first epoch is there it imports MLflow and
    prepares the store, which takes seconds: nobody waits for it. A store that is away is tried again for as long as it
    takes; what it refuses ends the sending, and `drain` raises. Whatever is sent may be sent again with the effect of
    once.

    Args:
        source: the records.
        store: where MLflow keeps the runs.
        folder: of the study, where the cursor is.
        forced: is told the path of the cursor when it has been written.
    """

    def __init__(
        self, source: Source, store: Store, folder: Path, forced: Callable[[Path], None] = lambda path: None
    ) -> None:
        self.trouble: str | None = None  # why nothing can be sent at the moment, in one line
        self._source, self._store, self._forced = source, store, forced
        self._path = folder / Cursor.FILE
        self.cursor = Cursor.at(self._path)  # what MLflow has, by what was sent
        self._deleted: dict[str, str] = {}  # key -> run id, of the runs that a user has deleted in MLflow
        self._changed = threading.Condition()  # guards the five below; notified of every change
        self._asked = self._answered = 0  # times that all was asked for, and was sent
        self._calls = 0  # that succeeded
        self._closing = False
        self._fault: Exception | None = None
        self._saved = 0.0
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    @property
    def unsent(self) -> int:
        """Runs of which MLflow lacks something, by the cursor; all where another store is meant."""
        sent = self.cursor.sent if self.cursor.store == str(self._store) else {}
        return len({shown.run for shown in self._source.shown() if sent.get(shown.key) != shown.mark})

    def behind(self, study_too: bool = False) -> bool:
        """Whether MLflow lacks something that it was sent: its database was deleted, or restored from an older copy.

        A store that does not answer now is not behind: it is asked again at the next start. What a user has deleted
        there is not missing; with `study_too` a study's run is.
        """
        try:
            states = stored(self._store, self._source.search.key)
        except Exception as error:
            if not is_transient(error, self._store.remote):
                raise
            return False
        return self._lacks(states) or (study_too and STUDY in deleted_runs(states))

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def send(self, patient: bool) -> str | None:
        """Waits until MLflow has everything; why it has not. If not `patient`, for seconds at most."""
        try:
            left = self.drain(PATIENCE if patient else HURRY, patient)
        except TrackingError as refused:
            return str(refused)
        return f"MLflow has not taken all of {left} runs ({self.trouble or 'it is slow'})" if left else None

    def drain(self, timeout: float, patient: bool = False) -> int:
        """Waits until the store is reached, and has all that is on record now; the number of runs that it lacks.

        At most `timeout` seconds; if `patient`, as long as it has not been idle for `timeout` seconds. Raises
        TrackingError when sending has stopped for good.
        """
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            over = lambda: bool(self._fault) or self._answered >= asked  # noqa: E731
            moves = True
            while moves and not over():
                before = self._calls
                self._changed.wait_for(lambda now=before: over() or (patient and self._calls != now), timeout)
                moves = patient and self._calls != before
        if self._fault:
            reason = without_credentials(f"{type(self._fault).__name__}: {self._fault}", self._store.uri)
            error = TrackingError(f"MLflow tracking stopped with {self.unsent} runs unsent: {reason}")
            error.add_note(without_credentials("".join(traceback.format_exception(self._fault)), self._store.uri))
            raise error
        return 0 if over() else max(self.unsent, 1)

    def close(self, timeout: float = 5.0) -> None:
        """Stops after the call that is under way, or after `timeout` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._wait_for_an_epoch()
            writer = self._connect()
            while not self._closing:
                asked = self._asked
                self._send_difference(writer)
                with self._changed:
                    self._answered = asked
                    self._changed.notify_all()
                    self._changed.wait_for(lambda now=asked: self._closing or self._asked > now, LOOK_SECONDS)
        except _Closed:
            return
        except Exception as error:  # kept for `drain` to raise: a thread has nobody else to tell
            with self._changed:
                self._fault = error
                self._changed.notify_all()

    def _wait_for_an_epoch(self) -> None:
        """Or for seconds: MLflow's import would take the cores with which workers start."""
        end = monotonic() + HEAD_START
        with self._changed:
            while not (self._closing or self._asked or any(shown.epochs for shown in self._source.shown())):
                if not self._changed.wait(LOOK_SECONDS) and monotonic() > end:
                    return

    def _connect(self) -> "RunWriter":
        from search.tracking import client, runs  # noqa: PLC0415  MLflow takes seconds: in this thread

        store = self._store

        def prepare() -> "tuple[MlflowClient, str]":
            client.ready(store.uri)
            follow(store)
            service = client.connect(store.uri)
            return service, client.find_or_create(service, store.experiment, store.root)

        service, experiment = self._attempt(prepare)
        states = self._attempt(lambda: stored(store, self._source.search.key))
        self._deleted = deleted_runs(states)
        # As a database does that was restored from an older copy. A study that its user has deleted, and that goes on,
        # is sent again, and all of it.
        if self.cursor.store != str(store) or STUDY in self._deleted or self._lacks(states):
            self.cursor.runs, self.cursor.sent = {}, {}
        if STUDY in self._deleted:
            self._deleted.clear()
        self.cursor.store, self.cursor.experiment = str(store), experiment
        self.cursor.runs = {**active_runs(states), **self.cursor.runs, **self._deleted}
        return runs.RunWriter(service, experiment, self._source, self.cursor.runs, self._deleted, self._attempt)

    def _lacks(self, states: Mapping[str, RunState]) -> bool:
        """Whether a store, of which these are the runs by id, lacks something that it was sent."""
        runs, marks = self.cursor.runs, self.cursor.sent
        if any(run not in states for run in runs.values()):
            return True
        for shown in self._source.shown():
            sent, state = marks.get(shown.key), states.get(runs.get(shown.run, ""))
            if sent is None or state is None or state.deleted:
                continue
            ended = STATUS[shown.state] != "RUNNING" and sent.end == shown.mark.end
            missing = any(state.steps.get(metric, -1) < step for metric, step in shown.steps(sent).items())
            if missing or (ended and state.status != STATUS[shown.state]):
                return True
        return False

    def _send_difference(self, writer: "RunWriter") -> None:
        changed = False
        for shown in self._source.shown():
            mark, sent = shown.mark, self.cursor.sent.get(shown.key)
            if sent == mark:
                continue
            if shown.run not in self._deleted or shown.key == CONCLUSION:
                self._write(writer, shown)
            self.cursor.sent[shown.key] = mark
            changed = True
            if monotonic() > self._saved + LOOK_SECONDS:
                self._save()
        if changed:
            self._save()

    def _save(self) -> None:
        self.cursor.save(self._path, self._forced)
        self._saved = monotonic()

    def _write(self, writer: "RunWriter", shown: Shown) -> None:
        """Writes a run, unless its user deletes it meanwhile."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415  MLflow takes seconds: in the mirror's thread

        try:
            writer.write(shown, self.cursor.sent.get(shown.key))
        except MlflowException:
            deleted = deleted_runs(self._attempt(lambda: stored(self._store, self._source.search.key)))
            if STUDY in deleted or deleted.keys() <= self._deleted.keys():
                raise
            self._deleted.update(deleted)
            if shown.run not in self._deleted or shown.key == CONCLUSION:
                self._write(writer, shown)

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
                with self._changed:
                    self._calls += 1
                    self._changed.notify_all()
                return result
            with self._changed:
                self._changed.wait_for(lambda: self._closing, pause)
            pause = min(pause * 2, LAST_PAUSE)
        raise _Closed
