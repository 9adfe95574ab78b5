"""A study's records at a URL: what a process writes in its own folder counts once it is there too."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.errors import Halted, InputError
from search.storage.layout import in_order, is_own, is_record
from search.storage.remote import Remote, is_url

MERGED = 500  # pieces of a log that are made one: a store has no appending, each record is a file of its own


@dataclass(frozen=True)
class Files:
    """A study's files, in a folder or at a URL, as they are now: they are read, and nothing is written anywhere.

    Raises:
        InputError: a log at the URL has a gap.
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
        if not is_url(self.place):
            return self.get(name)
        remote = Remote(self.place, patience=0)
        for last in (False, False, True):
            found = [file.rpartition("/")[2] for file in remote.files(name)]
            try:
                return _whole(remote, name, found)[0] if found else None
            except Halted as halted:  # who writes it has just made one piece of several
                if last or not isinstance(halted.__cause__, FileNotFoundError):
                    raise
        return None


class Replica:
    """The copy at `remote` of the files in `folder`; with None there is none, and nothing is done.

    A log, to which is only ever appended, is kept as `NAME/BEGIN-END`, pieces of it named by their first byte and the
    one after their last, so that a piece cut short, or written twice, is known. Any thread may call.
    """

    def __init__(self, folder: Path, remote: Remote | None) -> None:
        self._folder, self._remote = folder, remote
        self._lock = threading.Lock()
        self._pieces: dict[str, list[tuple[int, int]]] = {}  # of each log, in order
        self._large: dict[str, int] = {}  # of each log, how many of the first of them were made of others

    def fetch(self) -> list[str]:
        """Makes the folder's files those at the URL. What only the folder has was never told to anybody: it goes.

        Returns all names at the URL; of those only the study's records are read.

        Raises:
            InputError: a log has a gap.
            Halted: the store does not answer.
        """
        if self._remote is None:
            return []
        found = self._remote.files()
        names = [name for name in found if is_record(name)]
        logs = {name.partition("/")[0] for name in names if "/" in name}
        for path in self._folder.iterdir():
            if path.is_file() and not path.name.startswith("."):
                path.unlink()
        for name, data in self._remote.get_all(n for n in names if "/" not in n).items():
            (self._folder / name).write_bytes(data)
        for log in logs:
            self._fetch_log(log, [n.partition("/")[2] for n in names if n.startswith(f"{log}/")])
        return found

    def log(self, path: Path) -> None:
        """Sends what has been appended to a log."""
        if self._remote is None:
            return
        with self._lock:
            pieces = self._pieces.setdefault(path.name, [])
            begin = pieces[-1][1] if pieces else 0
            with path.open("rb") as file:
                file.seek(begin)
                data = file.read()
            whole = data.rfind(b"\n") + 1  # another thread may be in the middle of a line
            if whole:
                self._put(path.name, begin, data[:whole])
                pieces.append((begin, begin + whole))
            small = pieces[self._large.get(path.name, 0) :]
            if len(small) >= MERGED:
                self._merge(path, small)

    def file(self, path: Path) -> None:
        """Sends a file that was written whole."""
        if self._remote is not None:
            self._remote.put(self._name(path), path.read_bytes())

    def where(self, path: Path) -> str:
        """Where others find a file of the folder."""
        return str(path) if self._remote is None else f"{self._remote.url}/{self._name(path)}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def clear(self) -> list[str]:
        """Deletes the study's own files there, as `study_files.delete`; returns the URLs of what stays."""
        if self._remote is None:
            return []
        found = self._remote.files()
        self._remote.remove(in_order(name for name in found if is_own(name)))
        self._pieces.clear()
        self._large.clear()
        return [f"{self._remote.url}/{name}" for name in found if not is_own(name)]

    def remove(self, path: Path) -> None:
        """Deletes a file there."""
        if self._remote is not None:
            self._remote.remove([path.name])

    def _fetch_log(self, log: str, found: list[str]) -> None:
        assert self._remote is not None
        data, sound, torn = _whole(self._remote, log, found)
        (self._folder / log).write_bytes(data)
        self._remote.remove(f"{log}/{name}" for name in torn)  # else the next piece might be taken for a double of it
        self._pieces[log] = sound
        if len(sound) > 1:
            self._large[log] = 0
            self._merge(self._folder / log, self._pieces[log])

    def _merge(self, path: Path, spans: list[tuple[int, int]]) -> None:
        """Makes pieces one; they are deleted once it is there."""
        assert self._remote is not None
        begin, end = spans[0][0], max(end for _, end in spans)
        with path.open("rb") as file:
            file.seek(begin)
            self._put(path.name, begin, file.read(end - begin))
        self._remote.remove(f"{path.name}/{_name(*span)}" for span in spans if span != (begin, end))
        large = self._large.get(path.name, 0)
        self._pieces[path.name] = [*self._pieces[path.name][:large], (begin, end)]
        self._large[path.name] = large + 1

    def _put(self, log: str, begin: int, data: bytes) -> None:
        assert self._remote is not None
        self._remote.put(f"{log}/{_name(begin, begin + len(data))}", data)


def _name(begin: int, end: int) -> str:
    return f"{begin:012d}-{end:012d}"


def _span(name: str) -> tuple[int, int] | None:
    begin, _, end = name.partition("-")
    return (int(begin), int(end)) if begin.isdigit() and end.isdigit() else None


def _whole(remote: Remote, log: str, found: Sequence[str]) -> tuple[bytes, list[tuple[int, int]], list[str]]:
    """A log made of its pieces, those it is made of, and the names of those that were cut short."""
    spans = {name: _span(name) for name in found}
    content = remote.get_all(f"{log}/{name}" for name in found)
    torn = [n for n, span in spans.items() if span is None or len(content[f"{log}/{n}"]) != span[1] - span[0]]
    sound = sorted((span, n) for n, span in spans.items() if span is not None and n not in torn)
    data = bytearray()
    for (begin, end), name in sound:
        if begin > len(data):
            raise InputError(
                f"{remote.url}/{log} lacks bytes {len(data)} to {begin}; restore them from a copy, or delete "
                f"{remote.url}"
            )
        if end > len(data):
            data += content[f"{log}/{name}"][len(data) - begin :]
    return bytes(data), [span for span, _ in sound], torn
