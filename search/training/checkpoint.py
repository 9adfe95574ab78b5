"""A trial's state on disk or at a URL: whole or not at all, checked when read, the last two kept."""

import hashlib
import json
import logging
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from search.errors import Halted
from search.storage import Remote, files, is_url, local_copy
from search.training.loop import Epoch, State


def _name(epoch: int) -> str:
    return f"epoch-{epoch:06d}"


class LocalFiles:
    """Checkpoints in a folder: written aside, forced to the disk, then renamed. Their names sort by age."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, epoch: int, contents: Mapping[str, bytes]) -> str:
        """Adds the checkpoint of an epoch, which survives a power cut then; returns its name."""
        self._folder.mkdir(parents=True, exist_ok=True)
        final = self._folder / _name(epoch)
        part = self._folder / f".{final.name}-{uuid.uuid4().hex}.part"  # of this process alone
        try:
            files.fill(part, contents)
            part.rename(final)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
            if not final.is_dir():  # by a worker that had been given up for dead, and of the same state
                raise
        files.sync(self._folder)
        return final.name

    def names(self) -> list[str]:
        """Of all that are whole, oldest first."""
        return sorted(path.name for path in self._folder.glob("epoch-??????"))

    def read(self, name: str, file: str) -> bytes:
        """One file. Raises FileNotFoundError where there is none."""
        path = self._folder / name / file
        if path.is_symlink() or not path.is_file():  # `put` makes no links; a pipe would be waited for
            raise FileNotFoundError(f"{path} is not there, or no file")
        return path.read_bytes()

    def has(self, name: str, file: str) -> bool:
        """Whether a checkpoint has this file."""
        return (self._folder / name / file).exists()

    def drop(self, before: str) -> None:
        """Deletes all that are older than the one named."""
        for name in self.names():
            if name < before:
                shutil.rmtree(self._folder / name, ignore_errors=True)  # the other worker may be removing it

    def set_aside(self, name: str) -> None:
        """Renames one to `*.damaged`."""
        aside = self._folder / f"{name}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        (self._folder / name).rename(aside)

    def sweep(self) -> None:
        """Removes what a killed worker left of one that it had not finished."""
        for part in self._folder.glob(".epoch-*.part"):
            shutil.rmtree(part, ignore_errors=True)


class RemoteFiles:
    """The same at a URL, where nothing can be renamed: whole is what has its list of checksums, which is written last.

    Each has a name of its own, so that a worker given up for dead that still writes never mixes its files with others.
    """

    def __init__(self, place: Remote) -> None:
        self._place = place

    def put(self, epoch: int, contents: Mapping[str, bytes]) -> str:
        name = f"{_name(epoch)}-{uuid.uuid4().hex[:8]}"
        for file in sorted(contents, key=lambda file: file == files.SUMS):
            self._place.put(f"{name}/{file}", contents[file])
        return name

    def names(self) -> list[str]:
        whole = (re.fullmatch(rf"(epoch-\d{{6}}-[0-9a-f]{{8}})/{files.SUMS}", file) for file in self._place.files())
        return sorted(found[1] for found in whole if found)

    def read(self, name: str, file: str) -> bytes:
        data = self._place.get(f"{name}/{file}")
        if data is None:
            raise FileNotFoundError(f"{self._place.url}/{name}/{file} is not there")
        return data

    def has(self, name: str, file: str) -> bool:
        return f"{name}/{file}" in self._place.files(name)

    def drop(self, before: str) -> None:
        self._remove(file for file in self._place.files() if file.startswith("epoch-") and file < before)

    def set_aside(self, name: str) -> None:
        found = self._place.files(name)
        for file in found:
            self._place.put(f"{name}.damaged/{file.rpartition('/')[2]}", self._place.get(file) or b"")
        self._remove(found)

    def sweep(self) -> None:
        """Nothing: what is not whole may be of a worker that still writes, and goes with the older ones."""

    def _remove(self, names: Iterable[str]) -> None:
        # The list of checksums first: without it the rest is no checkpoint.
        self._place.remove(sorted(names, key=lambda file: not file.endswith(files.SUMS)))


Files = LocalFiles | RemoteFiles


def files_in(folder: Path | str) -> Files:
    """The checkpoints in a folder, given as path or URL."""
    return RemoteFiles(Remote(str(folder))) if is_url(str(folder)) else LocalFiles(Path(folder))


KEPT = 2
WEIGHTS, MOMENTUM, AVERAGE, INDEX = "model.safetensors", "momentum.safetensors", "average.safetensors", "state.json"
TESTED = "test.npz"  # of a finalist, what it says of the test images: `search.training.predictions`
FILES = WEIGHTS, MOMENTUM, AVERAGE, INDEX, TESTED
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """State of a trial after an epoch, with a record of each epoch so far."""

    state: State
    history: list[dict[str, Any]]
    tested: bytes | None = None  # the file `TESTED`, once it is tested


def write(folder: Path | str, checkpoint: Checkpoint) -> str:
    """Adds a checkpoint to the trial's folder (a path or a URL) and removes all but the last two; where it lies.

    On return it survives a power cut. Raises OSError where the disk is full or not writable, Halted where the URL's
    store does not answer, or refuses; the checkpoints before it are left as they were.
    """
    place = files_in(folder)
    state = checkpoint.state
    contents = {WEIGHTS: save(state.weights), MOMENTUM: save(state.momentum)}
    if state.average:
        contents[AVERAGE] = save(state.average)
    if checkpoint.tested is not None:
        contents[TESTED] = checkpoint.tested
    index = {"epoch": state.epoch, "compiled": state.compiled, "history": checkpoint.history}
    contents[INDEX] = json.dumps(index).encode()
    written = place.put(state.epoch, contents | {files.SUMS: files.checksums(contents)})
    kept = place.names()[-KEPT:]
    place.drop(before=kept[0])
    return f"{folder}/{written}"


WRITE_SECONDS = 10.0  # from the beginning of a write to that of the next, where nothing rests on it


@cache
def _thread() -> Executor:
    """That of all writers of this process, begun with the first of them.

    Where memory is exhausted, a thread that begins may end before Python knows of it, which then waits for it forever.
    """
    pool = ThreadPoolExecutor(1, "checkpoint")
    pool.submit(lambda: None)
    return pool


class Writer:
    """Writes the checkpoints of a trial in another thread: neither disk nor store keeps the device waiting.

    One is written at a time, and no other state is copied meanwhile. What a write raises (see `write`) is raised by the
    call that comes next. Left as a context, it waits for a write that has begun. Half a checkpoint of a writer that was
    killed is removed.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = folder
        files_in(folder).sweep()
        self._thread = _thread()
        self._writing: Future[str] | None = None
        self._began = time.monotonic()
        self._newest: tuple[Epoch, list[dict[str, Any]], bytes | None] | None = None  # where it is not written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._writing is not None:
            wait([self._writing])

    def keep(self, epoch: Epoch, history: Sequence[dict[str, Any]], tested: bytes | None = None) -> None:
        """Takes an epoch that has ended; begins to write its state when the last write began `WRITE_SECONDS` ago.

        `history` and `tested` are as of `Checkpoint`.
        """
        self._newest = epoch, [*history], tested
        if self._writing is None or self._writing.done():
            self._end()
            if time.monotonic() - self._began >= WRITE_SECONDS:
                self._begin()

    def flush(self) -> None:
        """Returns when the state of the last epoch survives a power cut. To be called before the next one begins."""
        self._end()
        if self._newest is not None:
            self._begin()
            self._end()

    def _begin(self) -> None:
        assert self._newest is not None
        (epoch, history, tested), self._newest = self._newest, None
        self._began, state = time.monotonic(), epoch.begin_copy()
        self._writing = self._thread.submit(lambda: write(self._folder, Checkpoint(state(), history, tested)))

    def _end(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def latest(folder: Path | str) -> Checkpoint | None:
    """The newest checkpoint that is whole. A damaged one is renamed `*.damaged`, with a warning."""
    place = files_in(folder)
    for name in reversed(place.names()):
        try:
            return _read(place, name)
        except (OSError, ValueError, LookupError, TypeError, RecursionError, SafetensorError) as damage:
            log.warning("%s/%s is damaged (%s); using the checkpoint before it", folder, name, damage)
            place.set_aside(name)
    return None


def _read(place: Files, checkpoint: str) -> Checkpoint:
    sums = place.read(checkpoint, files.SUMS)
    contents: dict[str, bytes] = {}
    for line in sums.decode().splitlines():
        name = line.partition("  ")[2]
        if name not in FILES:
            raise ValueError(f"{name!r} is no file of a checkpoint")
        contents[name] = place.read(checkpoint, name)
    if files.checksums(contents) != sums:
        raise ValueError("a file does not match its checksum")
    index, predictions = json.loads(contents.pop(INDEX)), contents.pop(TESTED, None)
    tensors = {name: load(data) for name, data in contents.items()}
    epoch, history = index["epoch"], index["history"]
    if not isinstance(epoch, int) or not isinstance(history, list) or not all(isinstance(e, dict) for e in history):
        raise ValueError(f"{INDEX} is no record of epochs")
    state = State(epoch, tensors[WEIGHTS], tensors[MOMENTUM], tensors.get(AVERAGE, {}), index["compiled"])
    return Checkpoint(state, history, predictions)


def validated_weights(folder: Path | str, epoch: int) -> str | None:
    """The weights that were validated after an epoch, averaged ones where there are such; None where none are there."""
    place = files_in(folder)
    found = [name for name in place.names() if name.startswith(_name(epoch))][-1:]
    return next((f"{folder}/{name}/{AVERAGE if place.has(name, AVERAGE) else WEIGHTS}" for name in found), None)


def tested(folder: Path | str) -> bytes | None:
    """The file `TESTED` in a trial's newest checkpoint; None where there is none, or where it is damaged."""
    place = files_in(folder)
    newest = place.names()[-1:]
    if not newest or not place.has(newest[0], TESTED):
        return None
    data, sums = place.read(newest[0], TESTED), place.read(newest[0], files.SUMS)
    if files.checksums({TESTED: data}) in sums:
        return data
    log.warning("%s/%s/%s is damaged; the report is written without it", folder, newest[0], TESTED)
    return None


def pretrained(place: str) -> dict[str, Tensor]:
    """The weights that a trial starts from, in a file (path or URL) that is named by its SHA-256.

    Raises:
        Halted: the file is not there, or is not the one that it was.
    """
    try:
        with local_copy(place) as file:
            data = Path(file).read_bytes()
    except FileNotFoundError:
        data = b""
    if hashlib.sha256(data).hexdigest() != Path(place).stem:
        raise Halted(f"{place} is gone or damaged; restore it from a copy, or begin the study again with --fresh")
    return load(data)
