"""A study on disk: one folder, one process at a time, one specification."""

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from search.errors import Halted, InputError
from search.spec import DataSpec, StudySpec
from search.storage import Lease, Output, Remote, Replica, files, is_url, layout


@dataclass(frozen=True)
class Owner:
    """The folder of a study, as a storage knows it: by its id, wherever it is moved to."""

    id: str
    place: str  # path without links, or URL
    shared: bool  # the storage may hold studies of other folders; else it is the folder's own
    begun: bool  # the folder holds something of a study

    def has(self, notes: Mapping[str, Any]) -> bool:
        """Whether a study in the storage, by its notes there, is this folder's."""
        owner, place = notes["owner"], notes["place"]
        if not self.shared:
            return True
        if place == self.place:
            return owner == self.id or self.begun  # its id was damaged, and has been made again
        other = Path(place, layout.ID_FILE)  # if it is there with this id, this folder is a copy of that one
        return owner == self.id and not (other.is_file() and other.read_bytes().strip() == owner.encode())


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
    id: str  # of the study, wherever its folder is moved to

    @classmethod
    def enter(cls, output: Output, name: str) -> "StudyFolder":
        """Makes the folder and locks it until the process ends or `leave` is called.

        Raises:
            InputError: not writable, not of a study but not empty, or another process works on this study.
            Halted: the URL stopped to answer.
        """
        url = f"{output.url}/{name}" if output.url else None
        with ExitStack() as undo:
            try:
                path, lock = _locked(output, name)
                undo.callback(lock.release)
                lease, replica = None, Replica(path, Remote(url) if url else None)
                if url is not None:
                    lease = Lease(url, lambda: replica.send(path / layout.JOURNAL))
                    undo.callback(lease.leave)
                    _check_free(url, replica.fetch(), name)
                identity = _identity(path, replica)
            except OSError as error:
                raise InputError(
                    f"output = {str(output)!r} cannot be written ({error.strerror}); choose another --output"
                ) from None
            undo.pop_all()
        return cls(path, url, lock, lease, replica, identity)

    @staticmethod
    def check_apart(output: Output, name: str, data: DataSpec) -> None:
        """Refuses a study's folder in that of the images, or around them: what is whose could not be told.

        Raises:
            InputError: they overlap.
        """
        if output.url is not None:
            return
        kind, _, source = data.name.partition(":")
        study = Path(os.path.realpath(output.path / name))
        for field, given, path in (("data.name", data.name, source), ("data.dir", data.dir, data.dir)):
            if not path or is_url(path):
                continue
            images, whole = Path(os.path.realpath(Path(path).expanduser())), path == source and kind == "imagefolder"
            if images.is_relative_to(study) or (whole and study.is_relative_to(images)):
                raise InputError(
                    f"{field} = {given!r} and the study's folder {output.path / name} overlap; choose another --output "
                    "or --name"
                )

    def leave(self) -> None:
        """Lets another process in."""
        if self.lease is not None:
            with suppress(Halted):  # what is not sent is in the checkpoints
                self.forced(self.journal)
            self.lease.leave()
        self.lock.release()

    @property
    def place(self) -> str:
        """Path or URL of the study."""
        return self.url or str(self.path)

    def owner(self, shared: bool) -> Owner:
        """The folder as a storage knows it; `shared`: one that may hold studies of other folders, not the journal."""
        place = self.url or os.path.realpath(self.path)
        return Owner(self.id, place, shared, begun=self._key.exists())

    def forced(self, path: Path) -> None:
        """A record was written to this machine's disk: it is to count, wherever the study is.

        Raises:
            Halted: the URL does not answer, or another process has taken over.
        """
        if self.lease is not None:
            self.lease.check()
            self.replica.send(path)

    def relative(self, file: Path | str) -> str:
        """A file of the study by its path from the study's folder or URL, wherever that is moved to."""
        return str(file).removeprefix(f"{self.path}/").removeprefix(f"{self.place}/")

    @property
    def study_file(self) -> Path:
        return self.path / layout.STUDY_FILE

    @property
    def journal(self) -> Path:
        return self.path / layout.JOURNAL

    @property
    def trials(self) -> str:
        """Path or URL of the folder of the checkpoints of the search."""
        return f"{self.place}/trials"

    @property
    def finals(self) -> str:
        """As `trials`, of the finals."""
        return f"{self.place}/finals"

    def weights(self, digest: str) -> str:
        """Path or URL of weights that trials start from, by the SHA-256 of their file."""
        return f"{self.place}/{layout.WEIGHTS}/{digest}.safetensors"

    def keep_weights(self, data: bytes) -> str:
        """Puts a file of weights where workers read it; returns its SHA-256."""
        digest = hashlib.sha256(data).hexdigest()
        place, _, name = self.weights(digest).rpartition("/")
        if self.url:
            Remote(place).put(name, data)
        else:
            Path(place).mkdir(exist_ok=True)
            files.replace(Path(place) / name, data)
        return digest

    @property
    def _key(self) -> Path:
        return self.path / "key"

    def check_version(self) -> None:
        """Refuses a study that an older version has begun.

        Raises:
            InputError: that is so.
        """
        if (self.path / layout.OUTBOX).exists():
            raise InputError(layout.older(self.place))

    def bind(self, key: str, begun: bool) -> None:
        """Notes that what is kept here belongs to the study with this key in the storage.

        A note that is damaged is made again where the study in the storage has `begun`.

        Raises:
            InputError: it belongs to another, for the one in the storage was made anew.
        """
        known = self._key.read_bytes() if self._key.exists() else None
        if known == key.encode():
            return
        damaged = known is not None and re.fullmatch(rb"[A-Za-z0-9._-]+-[0-9a-f]{32}", known) is None
        keeps = (known is not None and not damaged) or layout.holds_checkpoints(self.path / "trials")
        if keeps and not (damaged and begun):
            raise InputError(
                f"{self.place} holds trials of a study that its storage has lost; restore {self.journal.name} (or "
                "search.storage), or begin again with --fresh"
            )
        self._write(self._key, key)

    def clear(self) -> list[str]:
        """Deletes the study, but for what says which it was (see `forget`); returns what is not its own: that stays."""
        here = layout.delete(self.path)
        return [*(str(path) for path in here), *self.replica.clear()]

    def forget(self) -> None:
        """Deletes the file that says which study it was, once nothing refers to it."""
        self.study_file.unlink(missing_ok=True)
        self.replica.remove(self.study_file)

    def settle(self, spec: StudySpec) -> None:
        """Writes the resolved study."""
        self._write(self.study_file, spec.to_yaml())

    def _write(self, file: Path, text: str) -> None:
        files.replace(file, text.encode())
        self.forced(file)


def _check_free(place: object, names: Iterable[str], name: str) -> None:
    found = layout.stranger(names)
    if found is not None:
        raise InputError(
            f"name = {name!r}: {place} is not the folder of a study, and {found!r} is in it; use another --name or "
            "--output"
        )


def _identity(path: Path, replica: Replica) -> str:
    """That of the study in a folder. One that is damaged is made again, as a folder's own journal needs none."""
    file = path / layout.ID_FILE
    known = re.fullmatch(rb"([0-9a-f]{32})\n", file.read_bytes()) if file.is_file() else None
    if known is not None:
        return known[1].decode()
    made = uuid.uuid4().hex
    files.replace(file, f"{made}\n".encode())
    replica.send(file)
    return made


def _locked(output: Output, name: str) -> tuple[Path, FileLock]:
    """The study's folder on this machine, made and locked."""
    if output.url is None and re.match(r"[A-Za-z0-9+.-]+:/(?!/)", str(output)):
        raise InputError(f"output = {str(output)!r} is neither a folder nor a URL; write two slashes after the colon")
    path = output.path.absolute() / name  # workers have other working directories
    try:
        if output.url is None:
            _check_free(path, layout.names_in(path), name)
        output.make(name)
        for place in layout.checkpoint_places(path):
            if not place.is_dir():
                raise InputError(
                    f"{place} is no folder, nor a link to one; mount or make the folder that it leads to, or remove it"
                )
        lock = FileLock(path / ".lock")
        lock.acquire(blocking=False)
        (path / ".holder").write_text(f"process {os.getpid()} on {socket.gethostname()}")
    except Timeout:
        holder = (path / ".holder").read_text(errors="replace") if (path / ".holder").exists() else "another process"
        raise InputError(
            f"study {name!r} in {output if output.url else path} is being worked on by {holder}; wait for it, or "
            "use another --name"
        ) from None
    return path, lock
