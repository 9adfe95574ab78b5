"""A durable log of tracking events, written before any network is touched: one JSON object a line.

Durability: `append` writes each event with a single `write`, so that a killed process loses nothing; what happens once
a trial or a study is also forced to the disk before `append` returns. Epochs are forced by `sync`, which the sender
calls before it sends: a power cut loses at most the epochs of the last second, and those are trained again anyway.
"""

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from search.errors import InputError
from search.storage import is_url
from search.tracking.events import STUDY, ChampionChosen, EpochEnded, Event, StudyEnded, TrialEnded, of_seeds, of_trials

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


@dataclass(frozen=True)
class Cursor:
    """How far the log has been sent, and where to."""

    offset: int = 0  # bytes of the log
    store: str = ""  # the tracking server and experiment, without credentials
    runs: dict[str, str] = field(default_factory=dict)  # search.key -> MLflow run id
    experiment: str = ""  # its id there; empty while nothing has been sent

    @property
    def study(self) -> str | None:
        """Id of the study's own run."""
        return self.runs.get(STUDY)

    @property
    def trials(self) -> dict[int, str]:
        """Number of a trial -> id of its run."""
        return of_trials(self.runs)

    @property
    def seeds(self) -> dict[tuple[int, int], str]:
        """Number of a trial, and seed of a training of the finals -> id of its run."""
        return of_seeds(self.runs)


_CURSOR = TypeAdapter(Cursor)


class Outbox:
    """The log at `path` (`.../outbox.jsonl`) and, beside it, the cursor of what has been sent.

    Paths in its folder are written relative to it, and read as they are now: the folder may be moved.

    A last line torn by a crash is cut away on opening. Raises InputError, naming the line, when any other line is not
    an event; OSError when the disk does not take an event, in which case the log is left as it was. `forced` is told
    the log's path, or the cursor's, whenever it has been written.
    """

    def __init__(self, path: Path, forced: Callable[[Path], None] = lambda path: None) -> None:
        self.path = path
        self._forced = forced
        self._cursor_path = path.with_suffix(".cursor.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._size = self._cut_torn_line()
        self.cursor = self._read_cursor()
        self._unsent = sum(1 for _ in self._lines(self.cursor.offset))

    def append(self, event: Event) -> None:
        """Add an event; on return it survives the death of this process, and all but epochs a power cut."""
        line = _with_paths(event, self._relative).model_dump_json().encode() + b"\n"
        with self._lock:
            try:
                written = os.write(self._file, line)
                if written < len(line):
                    written += os.write(self._file, line[written:])  # a full disk raises here
            except OSError:
                os.ftruncate(self._file, self._size)  # else the next event would continue half a line
                raise
            self._size += written
            self._unsent += 1
        if not isinstance(event, EpochEnded):
            self.sync()

    def sync(self) -> None:
        """Force everything appended so far to the disk."""
        os.fdatasync(self._file)
        self._forced(self.path)

    def events(self, offset: int = 0) -> Iterator[tuple[Event, int]]:
        """Each event from byte `offset` on, with the offset of its end."""
        return ((self._event(line, end), end) for line, end in self._lines(offset))

    def last(self, count: int) -> list[Event]:
        """The last events, in their order; fewer where there are no more."""
        return [self._event(line, end) for line, end in deque(self._lines(0), count)]

    def _event(self, line: bytes, end: int) -> Event:
        try:
            return _with_paths(_EVENT.validate_json(line), self._absolute)
        except ValueError:
            number = self.path.read_bytes().count(b"\n", 0, end)
            raise InputError(
                f"{self.path} is damaged in line {number}; restore it from a copy, or remove that line and "
                f"{self._cursor_path.name}: MLflow then lacks what the line said"
            ) from None

    def commit(self, cursor: Cursor, events: int) -> None:
        """Record that `events` more have been sent, up to the cursor's offset."""
        partial = self._cursor_path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(cursor), indent=1), encoding="utf-8")
        partial.replace(self._cursor_path)  # not forced to the disk: an older cursor only means sending again
        self._forced(self._cursor_path)
        with self._lock:
            self.cursor = cursor
            self._unsent -= events

    def rewind(self, store: str) -> None:
        """Have everything sent (again) to `store`."""
        self.commit(Cursor(store=store), 0)
        with self._lock:
            self._unsent = sum(1 for _ in self._lines(0))

    @property
    def unsent(self) -> int:
        """Number of events after the cursor."""
        with self._lock:
            return self._unsent

    def close(self) -> None:
        """Close the log; nothing can be appended afterwards."""
        self.sync()
        os.close(self._file)

    def _relative(self, path: str) -> str:
        return str(Path(path).relative_to(self.path.parent)) if Path(path).is_relative_to(self.path.parent) else path

    def _absolute(self, path: str) -> str:
        return path if is_url(path) else str(self.path.parent / path)

    def _lines(self, offset: int) -> Iterator[tuple[bytes, int]]:
        with self.path.open("rb") as log:
            log.seek(offset)
            for line in log:
                if not line.endswith(b"\n"):
                    return  # being written at this moment
                offset += len(line)
                yield line, offset

    def _cut_torn_line(self) -> int:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._file, whole)
        return whole

    def _read_cursor(self) -> Cursor:
        cursor = parse_cursor(self._cursor_path.read_bytes() if self._cursor_path.exists() else None)
        ends = {0, *(end for _, end in self._lines(0))}
        return cursor if cursor.offset in ends else Cursor()


def _with_paths(event: Event, changed: Callable[[str], str]) -> Event:
    match event:
        case TrialEnded() | StudyEnded():
            return event.model_copy(update={"artifacts": tuple(map(changed, event.artifacts))})
        case ChampionChosen():
            return event.model_copy(update={"folder": changed(event.folder)})
        case _:
            return event


def parse_cursor(data: bytes | None) -> Cursor:
    """The cursor in a file's `data`; that of a log of which nothing has been sent where there is none."""
    try:
        return Cursor() if data is None else _CURSOR.validate_json(data, strict=True)
    except ValueError:
        return Cursor()  # torn by a power cut, or damaged: sending everything again changes nothing
