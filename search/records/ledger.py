"""The study's one source of truth: its Optuna storage, and the records of its search and finals in it."""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from search.errors import Halted, InputError, first_line, public, without_credentials
from search.records.conclusion import Conclusion
from search.records.trial import Metrics, TrialRecord, TrialState, now_ms
from search.records.trials import Standings, Trials
from search.spec import Appraisal, Space, TrialSpec, Value

_OPTUNA_STATE = {
    TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    TrialState.DIVERGED: optuna.trial.TrialState.PRUNED,
    TrialState.FAILED: optuna.trial.TrialState.FAIL,
    TrialState.INFEASIBLE: optuna.trial.TrialState.FAIL,
}


@dataclass(frozen=True)
class Asked:
    """A trial that is to run, or to go on: its number in the study and its specification."""

    number: int
    spec: TrialSpec


class Ledger:
    """Trials of one study in durable Optuna storage; opening the same storage continues the same study.

    Finals are a study of their own, whose trials are the trainings of finalists: their `curve` holds training errors,
    their value is a test error.

    Every write is durable before the call returns, and a trial is written whole: with all of its parameters, or not at
    all. One process writes at a time.

    Args:
        storage: see `search.storage`.
        name: of the study in it.
        space: what is searched.
        appraise: what a trial would cost, and whether it is within the limits.
    """

    SUFFIX = (
        "/finals"  # of a search's name in the storage, where the trainings of its finals are; no study has a / in it
    )

    def __init__(
        self, storage: BaseStorage, name: str, space: Space, appraise: Callable[[TrialSpec], Appraisal]
    ) -> None:
        self._storage, self._space, self._appraise = storage, space, appraise
        sampler = optuna.samplers.RandomSampler()  # asked for nothing: configurations are added whole
        if name in optuna.get_all_study_names(storage):  # opened without a write, so that looking changes nothing
            self.study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        else:
            self.study = optuna.create_study(study_name=name, storage=storage, sampler=sampler, direction="minimize")
        for attribute, value in (("began", now_ms()), ("key", f"{name}-{uuid.uuid4().hex}")):
            if attribute not in self.study.user_attrs:
                self.study.set_user_attr(attribute, value)
        notes = self.study.user_attrs
        self.key = str(notes["key"])  # names this study among all, wherever its runs are tracked
        self.began = int(notes["began"])  # Unix time in ms
        self.numbers: dict[str, int] = notes.get("numbers", {})  # digest -> number of what was compared so far
        self.conclusion = Conclusion.of(notes["conclusion"]) if "conclusion" in notes else None  # as it was last said
        self._writing, self._failed = RLock(), False
        self._trials: dict[int, optuna.Trial] = {}  # handles of the trials that this process writes to
        self.standings = Standings()
        self._held: dict[int, int] = {}  # number -> the epoch after which it was held
        for frozen in self.study.get_trials(deepcopy=False):
            self.standings.put(TrialRecord.of(frozen))
            if "held" in frozen.user_attrs:
                self._held[frozen.number] = frozen.user_attrs["held"]
            outcome = frozen.user_attrs.get("outcome")
            if outcome and not frozen.state.is_finished():  # the process died between the writes of `finish`
                self._tell(frozen.number, TrialState(outcome["state"]))

    @property
    def records(self) -> Trials:
        """All trials by number."""
        return Trials(self.standings)

    @property
    def waiting(self) -> frozenset[int]:
        """Numbers of the trials that were held after their last epoch, and are not over."""
        held = ((self.standings[number], epoch) for number, epoch in self._held.items())
        return frozenset(record.number for record, epoch in held if record.running and record.epochs == epoch)

    @property
    def settled(self) -> Trials:
        """All trials by number, as they are durable: for another thread. None once a write has failed."""
        with self._writing:
            return Trials() if self._failed else self.records

    @contextmanager
    def together(self) -> Generator[None]:
        """Makes what is written while it is entered durable in one write to the disk, when it is left."""
        with self._writing:
            try:
                with self._storage.together() if isinstance(self._storage, _Storage) else nullcontext():
                    yield
            except BaseException:
                self._failed = True
                raise

    @property
    def elapsed(self) -> float:
        """Seconds of work that earlier processes spent on the study."""
        return float(self.study.user_attrs.get("elapsed", 0.0))

    def add_elapsed(self, seconds: float) -> None:
        """Adds to `elapsed`."""
        self.study.set_user_attr("elapsed", self.elapsed + seconds)

    @property
    def exhausted(self) -> str | None:
        """Why there is nothing left to propose; None as long as there is."""
        return self.study.user_attrs.get("exhausted")

    def exhaust(self, reason: str) -> None:
        """Notes that there is nothing left to propose."""
        self.study.set_user_attr("exhausted", reason)

    @property
    def starts(self) -> tuple[dict[str, Value], ...]:
        """Configurations of another study that this one begins with."""
        return tuple(self.study.user_attrs.get("starts", ()))

    def save_starts(self, starts: Sequence[Mapping[str, Value]]) -> None:
        """Notes `starts`, once: the other study may change, or go."""
        self.study.set_user_attr("starts", [dict(start) for start in starts])

    def with_run_ids(self, run_ids: Mapping[int, str]) -> Trials:
        """All trials, with the ids of their MLflow runs."""
        return Trials(replace(r, mlflow_run_id=run_ids.get(r.number)) for r in self.standings)

    def record(self, number: int) -> TrialRecord:
        """One trial."""
        return self.standings[number]

    def add(self, chosen: Mapping[str, Value]) -> Asked | None:
        """A new trial of this configuration, in one write; None, and recorded as infeasible, when beyond the limits."""
        return self._enter(self._space.specify(chosen), chosen, {})

    def enter(self, finalist: int, spec: TrialSpec) -> Asked | None:
        """A new training of a finalist, in one write; `spec` has its seed. None where it is beyond the limits."""
        return self._enter(spec, {}, {"finalist": finalist})

    def _enter(self, spec: TrialSpec, chosen: Mapping[str, Value], notes: Mapping[str, Any]) -> Asked | None:
        price = self._appraise(spec)
        number = len(self.standings)
        params = {d.path: chosen[d.path] for d in self._space.dimensions if d.path in chosen}
        attributes: dict[str, Any] = {
            "params": dict(spec.flat()),
            "began": now_ms(),
            "cost": {"params": price.params, "macs": price.macs, "activation_bytes": price.activation_bytes},
            **notes,
        }
        if price.reason:
            attributes["outcome"] = _outcome(TrialState.INFEASIBLE, reason=price.reason)
        trial = optuna.create_trial(
            state=optuna.trial.TrialState.FAIL if price.reason else optuna.trial.TrialState.RUNNING,
            params=params,
            distributions={d.path: d.distribution for d in self._space.dimensions if d.path in params},
            user_attrs=attributes,
            constraints=dict(price.excess),
        )
        self.study.add_trial(trial)
        trial.number = number
        self.standings.put(TrialRecord.of(trial))
        return None if price.reason else Asked(number, spec)

    def asked(self, number: int) -> Asked:
        """An open trial as it was asked for, to go on."""
        return Asked(number, self._space.specify(self.standings[number].params))

    def report(self, number: int, epoch: int, error: float, metrics: Metrics) -> None:
        """Records an epoch, once, with the error by which trials are compared (percent; not finite: diverged)."""
        record = self.standings[number]
        if epoch in record.curve:
            return
        error = error if math.isfinite(error) else TrialRecord.WORST
        trial = self._handle(number)
        with self.together():
            trial.set_user_attr(f"epoch:{epoch}", metrics.stored)  # an epoch counts once its error is there, too
            trial.report(error, epoch)
        self.standings.put(record.with_epoch(epoch, error, metrics))

    def conclude(self, conclusion: Conclusion) -> None:
        """Says how the study has ended, or that it goes on. Said again, it is as it was said first."""
        public = replace(conclusion, note=without_credentials(conclusion.note))
        after = public.after(self.conclusion)
        if after != self.conclusion:
            self.study.set_user_attr("conclusion", after.stored)
            self.conclusion = after

    def save_numbers(self, numbers: Mapping[str, int]) -> None:
        """Adds to `numbers`."""
        if not numbers.items() <= self.numbers.items():
            known = self.numbers | dict(numbers)
            self.study.set_user_attr("numbers", known)
            self.numbers = known

    def hold(self, number: int) -> None:
        """Notes that a trial waits after its last epoch. Its next epoch ends that."""
        # Whether it was held cannot be found out later, when more trials have come to compare with.
        epoch = self.standings[number].epochs
        if self._held.get(number) != epoch:
            self._handle(number).set_user_attr("held", epoch)
            self._held[number] = epoch

    def finish(
        self,
        number: int,
        state: TrialState,
        reason: str | None = None,
        traceback: str | None = None,
        weights: str | None = None,
    ) -> None:
        """Ends a trial; a second ending is ignored, so that the first cause stays. Arguments as of `TrialRecord`.

        One that is infeasible though within the limits ran out of memory: a limit that was not known before.
        """
        record = self.standings[number]
        if not record.running:
            return
        outcome = _outcome(state, reason=reason, traceback=traceback, weights=weights)
        with self.together():
            self._handle(number).set_user_attr("outcome", outcome)
            self.standings.put(record.with_outcome(outcome))
            self._tell(number, state)

    def _tell(self, number: int, state: TrialState) -> None:
        if state is TrialState.INFEASIBLE:
            self._handle(number).set_constraint(TrialRecord.MEMORY, 1.0)
            self.standings.put(replace(self.standings[number], violation=1.0, out_of_memory=True))
        values = [self._value(self.standings[number])] if state is TrialState.COMPLETE else None
        self.study.tell(number, values=values, state=_OPTUNA_STATE[state])

    def _value(self, record: TrialRecord) -> float:
        if record.finalist is None:
            return record.curve[record.epochs]
        assert record.test is not None  # a complete training has been tested
        return record.test["error"]

    def _handle(self, number: int) -> optuna.Trial:
        if number not in self._trials:
            identity = self._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)  # pyright: ignore[reportPrivateUsage] - nothing else names it
            self._trials[number] = optuna.trial.Trial(self.study, identity)
        return self._trials[number]


def _outcome(state: TrialState, **texts: str | None) -> dict[str, Any]:
    return {
        "state": state.value,
        "time_ms": now_ms(),
        **{name: without_credentials(text) for name, text in texts.items() if text},
    }


LOCK_FILE_SUFFIX = ".lock"  # of Optuna, beside the journal
SEAL = "seal"  # of a line of the journal
OF_EPOCHS = (7, 8)  # `op_code` of lines of Optuna's journal: an intermediate value, and an attribute, of a trial
RESTORE = "restore it from a copy, or begin again with --fresh --yes"


class _Lock(JournalFileSymlinkLock):
    """Optuna's lock of a journal, which its holder can take again."""

    _held = 0

    def acquire(self) -> bool:
        if not self._held:
            super().acquire()
        self._held += 1
        return True

    def release(self) -> None:
        self._held -= 1
        if not self._held:
            super().release()


class _Journal(JournalFileBackend):
    """Optuna's journal, in which every line has a seal: a digest of itself and of the seal before it.

    So a line that is missing or was changed is found at the next one that has a seal. Optuna and its dashboard do not
    look at seals, and lines that they add have none. `grown` is called with the path after each addition but for epochs
    of a trial: these are in its checkpoint too.
    """

    def __init__(self, path: Path, grown: Callable[[Path], None]) -> None:
        super().__init__(str(path), _Lock(str(path)))
        self._path, self._grown = path, grown
        self._pending: list[dict[str, Any]] | None = None  # lines that are to be written together
        self._first = 0  # the line that the first of them will be
        self._seals = [""]  # the last seal before line 1, 2, 3 ...
        self.line = 0  # that was read last

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        self.line = log_number_from
        try:
            for log in self._lines(log_number_from):
                self.line += 1
                self._check(log)
                yield log
        except InputError:
            raise
        except (ValueError, RecursionError):  # no JSON
            raise InputError(_damaged(self._path, self.line + 1)) from None

    def _lines(self, start: int) -> Iterator[dict[str, Any]]:
        if self._pending is None or start < self._first:  # of a line that it has not seen Optuna reads the whole file
            yield from super().read_logs(start)
        for log in (self._pending or [])[max(0, start - self._first) :]:
            yield json.loads(json.dumps(log))  # as it will be read from the file

    @contextmanager
    def together(self) -> Generator[None]:
        """Writes what is appended while it is entered when it is left: one lock, one write, one fsync.

        Others cannot append until then, so that lines keep the numbers by which they are known here.
        """
        if self._pending is not None:
            yield
            return
        self._lock.acquire()
        try:
            for _ in self.read_logs(len(self._seals) - 1):
                pass  # what others have added
            self._pending, self._first = [], len(self._seals) - 1
            try:
                yield
            finally:
                pending, self._pending = self._pending, None
                if pending:
                    self._append(pending)
                    for _ in super().read_logs(self._first):
                        pass  # where each line begins is known from here on
        finally:
            self._lock.release()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        for _ in self.read_logs(len(self._seals) - 1):
            pass  # what others have added
        seal, sealed = self._seals[-1], list[dict[str, Any]]()
        for log in logs:
            seal = _seal(seal, log)
            sealed.append({**log, SEAL: seal})
        if self._pending is not None:
            self._pending += sealed
        else:
            self._append(sealed)

    def _append(self, logs: list[dict[str, Any]]) -> None:
        super().append_logs(logs)
        if any(log["op_code"] not in OF_EPOCHS for log in logs):
            self._grown(self._path)

    def _check(self, log: dict[str, Any]) -> None:
        if not isinstance(log, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - a line of JSON can be a number
            raise InputError(_damaged(self._path, self.line))
        seal, before = log.pop(SEAL, None), self._seals[self.line - 1]
        if seal not in (None, _seal(before, log)):
            raise InputError(
                f"{self._path} is damaged: line {self.line} was changed, or lines before it are missing; {RESTORE}"
            )
        self._seals[self.line :] = [seal or before]


class _Storage(JournalStorage):
    """Optuna's storage in a journal."""

    def __init__(self, journal: _Journal) -> None:
        super().__init__(journal)
        self.together = journal.together


class _Copy(_Journal):
    """What a journal, known as `path`, held at one moment: `data`, whose last line may be cut short."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._seals, self._pending, self.line = path, [""], None, 0
        whole = data[: data.rfind(b"\n") + 1].rstrip(b"\n")
        self._kept = whole.split(b"\n") if whole else []

    def _lines(self, start: int) -> Iterator[dict[str, Any]]:
        return map(json.loads, self._kept[start:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise InputError(f"{self._path} was opened to be read; nothing can be added to this copy")


def _seal(before: str, log: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"{before}{json.dumps(log)}".encode()).hexdigest()[:16]


def _damaged(journal: Path, line: int) -> str:
    return f"{journal} is damaged in line {line}; {RESTORE}"


def open_storage(
    journal: Path, url: str | None = None, grown: Callable[[Path], None] = lambda path: None
) -> BaseStorage:
    """The storage at `url`, or the journal, of which `grown` is told after each addition.

    Raises:
        InputError: nothing answers at the URL, or Optuna does not know it; a journal that is damaged before its end.
    """
    if url is None:
        _mend(journal)
        return _opened(_Journal(journal, grown), journal)
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:  # whatever a database's driver raises, or that it is not installed
        cause = without_credentials(first_line(error), url)
        raise InputError(
            f"search.storage = {public(url)!r} cannot be opened ({cause}); correct the URL, or leave it out for a "
            "journal file"
        ) from None


def read_journal(path: Path, data: bytes) -> BaseStorage:
    """The storage that a journal, known as `path`, held when its bytes were `data`: to be read, in memory alone.

    Raises:
        InputError: it is damaged before its end.
    """
    return _opened(_Copy(path, data), path)


def _opened(backend: _Journal, path: Path) -> BaseStorage:
    try:
        return _Storage(backend)
    except InputError:
        raise
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError):  # Optuna checks no line
        raise InputError(_damaged(path, backend.line)) from None


@contextmanager
def answering(url: str | None) -> Generator[None]:
    """While it is entered, a database that goes away halts the study.

    Raises:
        Halted: it went away.
    """
    try:
        yield
    except StorageInternalError as error:
        cause = without_credentials(first_line(error.__cause__ or error, "no answer"), url)
        shown = public(url) if url else None
        raise Halted(f"search.storage = {shown!r} does not answer any more ({cause}); start it again") from None


def _mend(journal: Path) -> None:
    """Removes what a process that was killed while it wrote left: Optuna's lock, and a line cut off in the middle."""
    # Optuna would wait 30 s for the lock, and without end where the path of the journal is relative.
    journal.with_name(journal.name + LOCK_FILE_SUFFIX).unlink(missing_ok=True)
    if journal.exists():
        data = journal.read_bytes()
        whole = data[: data.rfind(b"\n") + 1].rstrip(b"\n")
        size = len(whole) + 1 if whole else 0
        if size < len(data):  # the next line would be glued to half a one, and both unreadable
            os.truncate(journal, size)
        try:
            json.loads(whole.rpartition(b"\n")[2] or b"{}")
        except (ValueError, RecursionError):  # in the last line Optuna takes it for one that is being written
            raise InputError(_damaged(journal, whole.count(b"\n") + 1)) from None
