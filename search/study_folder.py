"""A study on disk: one folder, one process at a time, one specification."""

import os
import re
import shutil
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from search import plain_yaml
from search.errors import InputError
from search.lease import Lease
from search.outbox import read_cursor
from search.output import STUDY_FILE, Output
from search.remote import Remote
from search.replica import Replica
from search.study_spec import StudySpec, flatten
from search.whole_file import replace

STAYS = ("data", "search.seed")  # what makes a study another one; whatever else is changed, it can go on with
MAY_CHANGE = ("data.dir",)
JOURNAL = "optuna.journal"


@dataclass(frozen=True)
class StudyFolder:
    """Paths inside a study's folder, and what keeps a second process out.

    A study at a URL has its checkpoints there alone; its records are in a folder of this machine too, and count once
    they are at the URL.
    """

    path: Path
    url: str | None
    lock: FileLock
    lease: Lease | None
    replica: Replica

    @classmethod
    def enter(cls, output: Output, name: str) -> "StudyFolder":
        """Makes the folder and locks it until the process ends or `leave` is called.

        Raises:
            InputError: not writable, or another process works on this study.
            Halted: the URL stopped to answer.
        """
        path, lock = _locked(output, name)
        if output.url is None:
            return cls(path, None, lock, None, Replica(path, None))
        url = f"{output.url}/{name}"
        with ExitStack() as undo:
            undo.callback(lock.release)
            lease = Lease(url)
            undo.callback(lease.leave)
            replica = Replica(path, Remote(url))
            replica.fetch()
            undo.pop_all()
        return cls(path, url, lock, lease, replica)

    def leave(self) -> None:
        """Lets another process in."""
        if self.lease is not None:
            self.lease.leave()
        self.lock.release()

    @property
    def place(self) -> str:
        """Where the study is, the same from every machine that reaches it: its owner in a shared storage."""
        return self.url or str(self.path)

    def forced(self, path: Path) -> None:
        """A record was written to this machine's disk: it is to count, wherever the study is.

        Raises:
            Halted: the URL does not answer, or another process has taken over.
        """
        if self.lease is not None:
            self.lease.check()
            if path.suffix in (".jsonl", ".journal"):
                self.replica.log(path)
            else:
                self.replica.file(path)

    def kept(self, *files: Path) -> tuple[str, ...]:
        """Where files that were written whole are kept: their paths or URLs."""
        for file in files:
            self.forced(file)
        return tuple(self.replica.where(file) for file in files)

    @property
    def study_file(self) -> Path:
        return self.path / STUDY_FILE

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    def outbox(self, generation: int) -> Path:
        """Events for MLflow; `generation` counts the studies in this folder, as what it searches was changed."""
        return outbox_file(self.path, generation)

    def trials(self, generation: int) -> str:
        """Path or URL of the checkpoints' folder."""
        return f"{self.place}/trials{_suffix(generation)}"

    def finals(self, generation: int) -> str:
        """Path or URL of the folder of the checkpoints of the finals."""
        return f"{self.place}/finals{_suffix(generation)}"

    def tracked_at(self, store: str) -> bool:
        """Whether a study in this folder has been tracked in `store`, as `tracking_uri.store` names it."""
        return any(read_cursor(path).store == store for path in self.path.glob("outbox*.cursor.json"))

    def bind(self, generation: int, key: str) -> None:
        """Notes that what is kept here of this generation belongs to the study with this key in the storage.

        Raises:
            InputError: it belongs to another, for the one in the storage was made anew.
        """
        file = self.path / f"key{_suffix(generation)}"
        kept = self.outbox(generation).exists() or (self.path / f"trials{_suffix(generation)}").exists()
        known = file.read_text() if file.exists() else None
        if known == key:
            return
        if kept:
            raise InputError(
                f"{self.place} holds trials of a study that its storage has lost; restore {self.journal.name} (or "
                "search.storage), or begin again with --fresh"
            )
        self._write(file, key)

    def clear(self) -> None:
        """Deletes the study, but for the file that says which it was: that is for `forget`, once nothing refers to it.

        Checkpoints go first and the records of the trials last, so that what is left, should this be cut short, is
        never taken for the state of another trial.
        """
        for path in (
            *self.path.glob("trials*"),
            *self.path.glob("finals*"),
            *self.path.glob("outbox*"),
            *self.path.glob("key*"),
            *self._others(),
        ):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.replica.clear(keep=STUDY_FILE)

    def _others(self) -> list[Path]:
        keep = {STUDY_FILE, ".lock", ".holder"}
        return sorted((p for p in self.path.iterdir() if p.name not in keep), key=lambda p: p == self.journal)

    def forget(self) -> None:
        """Deletes the file that says which study it was."""
        self.study_file.unlink(missing_ok=True)
        self.replica.remove(self.study_file)

    def _settled(self) -> dict[str, Any]:
        try:
            before = plain_yaml.read(self.study_file)
        except (OSError, yaml.YAMLError):
            before = None
        if not isinstance(before, dict):
            raise InputError(f"{self.study_file} is damaged; remove it to continue with the study given now")
        return before

    def settle(self, spec: StudySpec) -> None:
        """Writes the resolved study; where one is, checks that it has the same data and seed.

        Raises:
            InputError: the folder holds a study of other data, or with another seed.
        """
        if self.study_file.exists():
            before = flatten(self._settled())
            now = flatten(plain_yaml.parse(spec.to_yaml()))
            for path in sorted(before.keys() | now.keys()):
                if not path.startswith(STAYS) or path in MAY_CHANGE or before.get(path) == now.get(path):
                    continue
                raise InputError(
                    f"{path} = {now.get(path)!r}, but the study in {self.place} was made with {before.get(path)!r}; "
                    "use another --name for another study"
                )
        self._write(self.study_file, spec.to_yaml())

    def _write(self, file: Path, text: str) -> None:
        replace(file, text.encode())
        self.forced(file)


def outbox_file(folder: Path, generation: int) -> Path:
    """See `StudyFolder.outbox`."""
    return folder / f"outbox{_suffix(generation)}.jsonl"


def _suffix(generation: int) -> str:
    return "" if generation == 1 else f"-{generation}"


def _locked(output: Output, name: str) -> tuple[Path, FileLock]:
    """The study's folder on this machine, made and locked."""
    if output.url is None and re.match(r"[A-Za-z0-9+.-]+:/(?!/)", str(output)):
        raise InputError(f"output = {str(output)!r} is neither a folder nor a URL; write two slashes after the colon")
    path = output.path.absolute() / name  # workers have other working directories
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(blocking=False)
        (path / ".holder").write_text(f"process {os.getpid()} on {socket.gethostname()}")
    except Timeout:
        holder = (path / ".holder").read_text() if (path / ".holder").exists() else "another process"
        raise InputError(
            f"study {name!r} in {output if output.url else path} is being worked on by {holder}; wait for it, or "
            "use another --name"
        ) from None
    except OSError as error:
        raise InputError(
            f"output = {str(output)!r} cannot be written ({error.strerror}); choose another --output"
        ) from None
    return path, lock
