"""A study's records at a URL: what a process writes in its own folder counts once it is there too."""

import threading
from pathlib import Path

from search.storage.layout import JOURNAL, in_order, is_own, is_piece, is_record
from search.storage.remote import Remote, is_url

PIECE = 2**19  # bytes of the journal after which a new piece of it is begun


def read(place: str, name: str) -> bytes | None:
    """What is in a file of the study at `place`, a path or URL, as it is now; None where there is none.

    Raises:
        Halted: the URL does not answer.
    """
    if is_url(place):
        return Remote(place, patience=0).get(name)
    path = Path(place) / name
    return path.read_bytes() if path.is_file() else None


def journal(place: str) -> bytes:
    """The journal of the study at `place`, which may end in the middle of a line; empty where there is none.

    Raises:
        Halted: the URL does not answer.
    """
    return b"".join(_pieces(Remote(place, patience=0)).values()) if is_url(place) else read(place, JOURNAL) or b""


class Replica:
    """The copy at `remote` of a study's records in `folder`; with None there is none, and nothing is done.

    The journal, to which is only ever appended, is there in pieces `optuna.journal/START-END`, in bytes. The last one
    is put again with all that has come since, under its new name, and then the one before is deleted. So there is
    always one that is whole, and one that was cut short is known by its length. Any thread may call.
    """

    def __init__(self, folder: Path, remote: Remote | None) -> None:
        self._folder, self._remote = folder, remote
        self._lock = threading.Lock()
        self._last: tuple[int, int] | None = None  # start and end of the last piece; None before `fetch`

    def fetch(self) -> list[str]:
        """Makes the folder's files those at the URL. What only the folder has was never reported to anybody: it goes.

        Returns all names at the URL; of those only the study's records are read.

        Raises:
            Halted: the store does not answer.
        """
        if self._remote is None:
            return []
        found, pieces = self._remote.files(), _pieces(self._remote)
        for path in self._folder.iterdir():
            if path.is_file() and not path.name.startswith("."):
                path.unlink()
        for name in filter(is_record, found):
            if (data := self._remote.get(name)) is not None:
                (self._folder / name).write_bytes(data)
        whole = b"".join(pieces.values())
        if whole:
            (self._folder / JOURNAL).write_bytes(whole)
        self._remote.remove(name for name in found if is_piece(name) and name not in pieces)
        self._last = len(whole), len(whole)
        return found

    def send(self, path: Path) -> None:
        """Sends a record that was written whole, or the journal, if it has grown."""
        if self._remote is None:
            return
        if path.name != JOURNAL:
            self._remote.put(path.name, path.read_bytes())
            return
        with self._lock:
            if self._last is not None and path.exists():
                self._last = _extend(self._remote, path, *self._last)

    def clear(self) -> list[str]:
        """Deletes the study's own files there, as `layout.delete`; returns the URLs of what stays."""
        if self._remote is None:
            return []
        found = self._remote.files()
        self._remote.remove(in_order(name for name in found if is_own(name)))
        self._last = 0, 0
        return [f"{self._remote.url}/{name}" for name in found if not is_own(name)]

    def remove(self, path: Path) -> None:
        """Deletes a record there."""
        if self._remote is not None:
            self._remote.remove([path.name])


def _extend(remote: Remote, journal: Path, start: int, end: int) -> tuple[int, int]:
    """Puts the last piece with what has come since, or the next one; returns where that starts and ends."""
    first = end if end - start >= PIECE else start
    with journal.open("rb") as file:
        file.seek(first)
        data = file.read()
    data = data[: data.rfind(b"\n") + 1]  # another thread may be in the middle of a line
    now = first + len(data)
    if now <= end:
        return start, end
    remote.put(_name(first, now), data)
    if start == first < end:
        remote.remove([_name(start, end)])
    return first, now


def _name(start: int, end: int) -> str:
    return f"{JOURNAL}/{start:012d}-{end:012d}"


def _span(name: str) -> tuple[int, int]:
    start, _, end = name.removeprefix(f"{JOURNAL}/").partition("-")
    return int(start), int(end)


def _pieces(remote: Remote) -> dict[str, bytes]:
    """The pieces of the journal that are as long as their names say, by name, from its beginning on."""
    while True:
        pieces: dict[str, bytes] = {}
        end, replaced = 0, False
        spans = [_span(name) for name in remote.files(JOURNAL) if is_piece(name)]
        for start, stop in sorted(spans, key=lambda span: (span[0], -span[1])):
            if start == end:
                data = remote.get(_name(start, stop))
                replaced |= data is None  # since it was listed, by a longer one
                if data and len(data) == stop - start:
                    pieces[_name(start, stop)], end = data, stop
        if not replaced:
            return pieces
