"""The thread that drains the outbox into MLflow, whatever the state of the store."""

import threading
import traceback
from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from search import tracking_database, tracking_uri
from search.outbox import Cursor, Outbox
from search.redact import without_credentials
from search.tracking_client import find_or_create, import_quietly, is_remote, is_transient
from search.tracking_store import STUDY, RunWriter

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
            reason = without_credentials(f"{type(self._fault).__name__}: {self._fault}")
            error = TrackingError(f"MLflow tracking stopped with {self.outbox.unsent} events unsent: {reason}")
            error.add_note(without_credentials("".join(traceback.format_exception(self._fault))))
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
        self._attempt(lambda: tracking_database.ready(self.uri, client_type))
        self._attempt(lambda: tracking_database.follow(self.uri, self._artifact_root))
        client = self._attempt(lambda: client_type(self.uri))
        experiment_id = self._attempt(lambda: find_or_create(client, self.experiment, self._artifact_root))
        self.experiment_id = experiment_id
        store = tracking_uri.store(self.uri, self.experiment)
        if self.outbox.cursor.store != store:
            self._start_over(store)
        writer = RunWriter(client, experiment_id, self._study_key, self.runs, self._attempt)
        if STUDY in self.runs and writer.study_run_is_gone():
            self._start_over(store)
        return writer

    def _start_over(self, store: str) -> None:
        self.runs.clear()
        self.outbox.rewind(store)

    def _send_pending(self, writer: RunWriter) -> None:
        while pending := list(islice(self.outbox.events(self.outbox.cursor.offset), EVENTS_AT_ONCE)):
            self.outbox.sync()
            writer.write([event for event, _ in pending])
            cursor = Cursor(pending[-1][1], self.outbox.cursor.store, dict(self.runs))
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
                self.trouble = without_credentials(" ".join(str(error).split()))
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
