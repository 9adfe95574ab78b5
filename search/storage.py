"""Where a study's trials are kept: a journal in the study's folder, or any storage that Optuna knows by its URL."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.errors import Halted, InputError, first_line
from search.redact import public, without_credentials

LOCK_FILE_SUFFIX = ".lock"  # of Optuna, beside the journal


class _Journal(JournalFileBackend):
    """Optuna's journal, of which every addition is told on."""

    def __init__(self, path: Path, grown: Callable[[Path], None]) -> None:
        super().__init__(str(path))
        self._path, self._grown = path, grown

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        super().append_logs(logs)
        self._grown(self._path)


def open_storage(
    journal: Path, url: str | None = None, grown: Callable[[Path], None] = lambda path: None
) -> BaseStorage:
    """The storage at `url`, or the journal, of which `grown` is told after each addition.

    Raises:
        InputError: nothing answers at the URL, or Optuna does not know it; a journal that is damaged before its end.
    """
    if url is None:
        _mend(journal)
        return JournalStorage(_Journal(journal, grown))
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:  # whatever a database's driver raises, or that it is not installed
        cause = without_credentials(first_line(error), url)
        raise InputError(
            f"search.storage = {public(url)!r} cannot be opened ({cause}); correct the URL, or leave it out for a "
            "journal file"
        ) from None


@contextmanager
def answering(url: str | None) -> Iterator[None]:
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
        whole = data.rfind(b"\n") + 1
        if whole < len(data):  # the next line would be glued to it, and both unreadable
            os.truncate(journal, whole)
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                json.loads(line or b"null")
            except ValueError:
                raise InputError(
                    f"{journal} is damaged in line {number}; restore it from a copy, or begin again with --fresh --yes"
                ) from None
