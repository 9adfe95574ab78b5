"""A study's records at a URL: what a process writes in its own folder counts once it is there too."""

import threading
from dataclasses import dataclass
from pathlib import Path

from search.storage.layout import in_order, is_own, is_record
from search.storage.remote import Remote, is_url


@dataclass(frozen=True)
class Files:
    """A study's files, in a folder or at a URL, as they are now: they are read, and nothing is written anywhere.

    Raises:
        Halted: the URL does not answer.
    """

    place: str  # path or URL

    def get(self, name: str) -> bytes | None:
        """What is in a file; None where there is none."""
        if is_url(self.place):
            return Remote(self.place, patience=0).get(name)
        path = Path(self.place) / name
        return path.read_bytes() if path.is_file() else None

    def log(self, name: str) -> bytes | None:
        """What is in a log, which may end in the middle of a line; None where there is none."""
        return _newest(Remote(self.place, patience=0), name) if is_url(self.place) else self.get(name)


class Replica:
    """The copy at `remote` of the files in `folder`; with None there is none, and nothing is done.

    A log, to which is only ever appended, is put whole as `NAME/BYTES`, and then the one before is deleted. So there is
    always one that is whole, and one that was cut short is known by its length. Any thread may call.
    """

    def __init__(self, folder: Path, remote: Remote | None) -> None:
        self._folder, self._remote = folder, remote
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}  # of each log there, in bytes
        self._ready = False  # the folder is what is at the URL, and may be sent there

    def fetch(self) -> list[str]:
        """Makes the folder's files those at the URL. What only the folder has was never told to anybody: it goes.

        Returns all names at the URL; of those only the study's records are read.

        Raises:
            Halted: the store does not answer.
        """
        if self._remote is None:
            return []
        found = self._remote.files()
        names = [name for name in found if is_record(name)]
        for path in self._folder.iterdir():
            if path.is_file() and not path.name.startswith("."):
                path.unlink()
        for name in names:
            if "/" not in name and (data := self._remote.get(name)) is not None:
                (self._folder / name).write_bytes(data)
        for log in {name.partition("/")[0] for name in names if "/" in name}:
            data = _newest(self._remote, log)
            if data is not None:
                (self._folder / log).write_bytes(data)
                self._sizes[log] = len(data)
            self._remote.remove(n for n in names if n.startswith(f"{log}/") and n != _name(log, self._sizes.get(log)))
        self._ready = True
        return found

    def log(self, path: Path) -> None:
        """Sends a log, if it has grown."""
        if self._remote is None or not self._ready:
            return
        with self._lock:
            data = path.read_bytes() if path.exists() else b""
            size = data.rfind(b"\n") + 1  # another thread may be in the middle of a line
            before = self._sizes.get(path.name, 0)
            if size > before:
                self._remote.put(_name(path.name, size), data[:size])
                self._sizes[path.name] = size
                self._remote.remove([_name(path.name, before)] if before else [])

    def file(self, path: Path) -> None:
        """Sends a file that was written whole."""
        if self._remote is not None:
            self._remote.put(self._relative(path), path.read_bytes())

    def where(self, path: Path) -> str:
        """Where others find a file of the folder."""
        return str(path) if self._remote is None else f"{self._remote.url}/{self._relative(path)}"

    def clear(self) -> list[str]:
        """Deletes the study's own files there, as `layout.delete`; returns the URLs of what stays."""
        if self._remote is None:
            return []
        found = self._remote.files()
        self._remote.remove(in_order(name for name in found if is_own(name)))
        self._sizes.clear()
        return [f"{self._remote.url}/{name}" for name in found if not is_own(name)]

    def remove(self, path: Path) -> None:
        """Deletes a file there."""
        if self._remote is not None:
            self._remote.remove([path.name])

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _name(log: str, size: int | None) -> str:
    return f"{log}/{size or 0:012d}"


def _newest(remote: Remote, log: str) -> bytes | None:
    """The longest of a log that is as long as its name says; None where there is none."""
    while True:
        replaced = False
        for name in reversed(remote.files(log)):
            data = remote.get(name)
            if data is not None and _name(log, len(data)) == name:
                return data
            replaced |= data is None  # since it was listed, by a longer one
        if not replaced:
            return None
