"""Where a trial's checkpoints lie: in a folder, or at a URL. Each is a folder of files, whole or not there."""

import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from search.remote import Remote, is_url
from search.whole_file import fill, sync

SUMS = "SHA256SUMS"  # of all the other files, as `sha256sum --check` reads it


class Files(Protocol):
    """Checkpoints by names that sort by age."""

    def put(self, epoch: int, contents: Mapping[str, bytes]) -> str:
        """Adds the checkpoint of an epoch, which survives a power cut then; returns its name."""
        ...

    def names(self) -> list[str]:
        """Of all that are whole, oldest first."""
        ...

    def read(self, name: str, file: str) -> bytes:
        """One file. Raises FileNotFoundError where there is none."""
        ...

    def has(self, name: str, file: str) -> bool:
        """Whether a checkpoint has this file."""
        ...

    def drop(self, before: str) -> None:
        """Deletes all that are older than the one named."""
        ...

    def set_aside(self, name: str) -> None:
        """Renames one to `*.damaged`."""
        ...

    def sweep(self) -> None:
        """Removes what a killed worker left of one that it had not finished."""
        ...

    def where(self, name: str) -> str:
        """Its path or URL."""
        ...


def files_in(folder: Path | str) -> Files:
    """The checkpoints in a folder, given as path or URL."""
    return RemoteFiles(Remote(str(folder))) if is_url(str(folder)) else LocalFiles(Path(folder))


class LocalFiles:
    """Written aside, forced to the disk, then renamed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, epoch: int, contents: Mapping[str, bytes]) -> str:
        # Where there is one of this epoch, that one stays: it was written by a worker that had been given up for dead,
        # and is of the same state.
        self._folder.mkdir(parents=True, exist_ok=True)
        final = self._folder / f"epoch-{epoch:06d}"
        part = self._folder / f".{final.name}-{uuid.uuid4().hex}.part"  # of this process alone
        try:
            fill(part, contents)
            part.rename(final)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
            if not final.is_dir():
                raise
        sync(self._folder)
        return final.name

    def names(self) -> list[str]:
        return sorted(path.name for path in self._folder.glob("epoch-??????"))

    def read(self, name: str, file: str) -> bytes:
        path = self._folder / name / file
        if path.is_symlink() or not path.is_file():  # `put` makes no links; a pipe would be waited for
            raise FileNotFoundError(f"{path} is not there, or no file")
        return path.read_bytes()

    def has(self, name: str, file: str) -> bool:
        return (self._folder / name / file).exists()

    def drop(self, before: str) -> None:
        for name in self.names():
            if name < before:
                shutil.rmtree(self._folder / name, ignore_errors=True)  # the other worker may be removing it

    def set_aside(self, name: str) -> None:
        aside = self._folder / f"{name}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        (self._folder / name).rename(aside)

    def sweep(self) -> None:
        for part in self._folder.glob(".epoch-*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def where(self, name: str) -> str:
        return str(self._folder / name)


class RemoteFiles:
    """A store has no renaming: a checkpoint is whole when its list of checksums is there, which is written last.

    Each has a name of its own, so that a worker given up for dead that still writes never mixes its files with others.
    """

    def __init__(self, place: Remote) -> None:
        self._place = place

    def put(self, epoch: int, contents: Mapping[str, bytes]) -> str:
        name = f"epoch-{epoch:06d}-{uuid.uuid4().hex[:8]}"
        for file in sorted(contents, key=lambda file: file == SUMS):
            self._place.put(f"{name}/{file}", contents[file])
        return name

    def names(self) -> list[str]:
        whole = (re.fullmatch(rf"(epoch-\d{{6}}-[0-9a-f]{{8}})/{SUMS}", file) for file in self._place.files())
        return sorted(found[1] for found in whole if found)

    def read(self, name: str, file: str) -> bytes:
        data = self._place.get(f"{name}/{file}")
        if data is None:
            raise FileNotFoundError(f"{self.where(name)}/{file} is not there")
        return data

    def has(self, name: str, file: str) -> bool:
        return f"{name}/{file}" in self._place.files(name)

    def drop(self, before: str) -> None:
        self._remove(file for file in self._place.files() if file.startswith("epoch-") and file < before)

    def set_aside(self, name: str) -> None:
        files = self._place.files(name)
        for file in files:
            self._place.put(f"{name}.damaged/{file.rpartition('/')[2]}", self._place.get(file) or b"")
        self._remove(files)

    def sweep(self) -> None:
        """Nothing: what is not whole may be of a worker that still writes, and goes with the older ones."""

    def where(self, name: str) -> str:
        return f"{self._place.url}/{name}"

    def _remove(self, files: Iterable[str]) -> None:
        # The list of checksums first: without it the rest is no checkpoint.
        self._place.remove(sorted(files, key=lambda file: not file.endswith(SUMS)))
