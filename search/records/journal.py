"""Where trials are kept: Optuna's storage in a journal of ours, or in a database by its URL."""

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from search.errors import Halted, InputError, first_line, public, without_credentials
from search.records.database import Database

LOCK_FILE_SUFFIX = ".lock"  # of Optuna, beside the journal
SEAL = "seal"  # of a line of the journal
OF_EPOCHS = {7, 8}  # `op_code` of lines of Optuna's journal: an intermediate value, and an attribute, of a trial
RESTORE = "restore it from a copy, or begin again with --fresh --yes"


class _Journal(JournalFileBackend):
    """Optuna's journal, in which every line has a seal: a digest of itself and of the seal before it.

    So a line that is missing or was changed is found at the next one that has a seal. Optuna and its dashboard do not
    look at seals, and lines that they add have none. `grown` is called with the path after each addition but for epochs
    of a trial: these are in its checkpoint too.
    """

    def __init__(self, path: Path, grown: Callable[[Path], None]) -> None:
        super().__init__(str(path), JournalFileSymlinkLock(str(path)))
        self._path, self._grown = path, grown
        self._added: list[int] | None = None  # `op_code` of the lines that are to be made durable together
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
        return super().read_logs(start)

    @contextmanager
    def together(self) -> Generator[None]:
        """Makes what is appended while it is entered durable when it is left, by one fsync; others wait for that."""
        if self._added is not None:
            yield
            return
        self._lock.acquire()
        self._added = []
        try:
            yield
        finally:
            added, self._added = self._added, None
            try:
                if added:
                    with self._path.open("ab") as file:
                        os.fsync(file.fileno())
                    if not set(added) <= OF_EPOCHS:
                        self._grown(self._path)
            finally:
                self._lock.release()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with self.together():
            for _ in self.read_logs(len(self._seals) - 1):
                pass  # what others have added
            assert self._added is not None
            seal = self._seals[-1]
            with self._path.open("ab") as file:
                for log in logs:
                    seal = _seal(seal, log)
                    file.write(json.dumps({**log, SEAL: seal}, separators=(",", ":")).encode() + b"\n")
                    self._added.append(log["op_code"])

    def _check(self, log: dict[str, Any]) -> None:
        if not isinstance(log, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - a line of JSON can be a number
            raise InputError(_damaged(self._path, self.line))
        seal, before = log.pop(SEAL, None), self._seals[self.line - 1]
        if seal not in (None, _seal(before, log)):
            raise InputError(
                f"{self._path} is damaged: line {self.line} was changed, or lines before it are missing; {RESTORE}"
            )
        self._seals[self.line :] = [seal or before]


class Storage(JournalStorage):
    """Optuna's storage in a journal; `together` makes several writes durable at once."""

    def __init__(self, journal: _Journal) -> None:
        super().__init__(journal)
        self.together = journal.together


class _Copy(_Journal):
    """What a journal, known as `path`, held at one moment: `data`, whose last line may be cut short."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._seals, self.line = path, [""], 0
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
        return Database(url)
    except Exception as error:  # whatever a database's driver raises, or that it is not installed
        cause, remedy = without_credentials(first_line(error), url), "correct the URL"
        if isinstance(error, ImportError):
            remedy = "install its driver: pip install 'resnet-search[postgresql]' for PostgreSQL"
        raise InputError(
            f"search.storage = {public(url)!r} cannot be opened ({cause}); {remedy}, or leave it out for a journal file"
        ) from None


def read_journal(path: Path, data: bytes) -> BaseStorage:
    """The storage that a journal, known as `path`, held when its bytes were `data`: to be read, in memory alone.

    Raises:
        InputError: it is damaged before its end.
    """
    return _opened(_Copy(path, data), path)


def _opened(backend: _Journal, path: Path) -> BaseStorage:
    try:
        return Storage(backend)
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
