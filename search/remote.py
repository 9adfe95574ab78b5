"""A folder at a URL that fsspec knows: an object store such as s3://, or another machine's disk."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import fsspec

from search import scratch
from search.errors import Halted, InputError, first_line
from search.redact import public, without_credentials

T = TypeVar("T")

PATIENCE = 60.0  # seconds for which a store that fails is tried again
FIRST_PAUSE, LAST_PAUSE = 0.5, 8.0  # seconds between attempts: doubled up to the last
# Object stores have no folders; asked to make one, their clients would make a bucket that does not exist.
_WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "r2"}
_REFUSED = (PermissionError, FileNotFoundError, NotImplementedError, TypeError)  # the same again would end the same


def is_url(text: str) -> bool:
    """Whether it names a place by scheme, as in s3://bucket/results."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


@contextmanager
def local_copy(file: str) -> Iterator[str]:
    """The path of a file given by path or URL; one at a URL is here while it is entered.

    Raises:
        FileNotFoundError: there is none at the URL.
        Halted: its store does not answer.
    """
    if not is_url(file):
        yield file
        return
    place, _, name = file.rpartition("/")
    data = Remote(place).get(name)
    if data is None:
        raise FileNotFoundError(f"{file} is not there")
    with scratch.folder() as folder:
        path = folder / name
        path.write_bytes(data)
        yield str(path)


class Remote:
    """Files below `url`, whole or not there, as far as its store can promise that.

    Every method may be called from any thread, and raises Halted when the store does not answer for `patience` seconds,
    or refuses.

    Raises:
        InputError: fsspec does not know such URLs, or what it needs for them is not installed.
    """

    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._folders = self.url.partition("://")[0].lower() not in _WITHOUT_FOLDERS
        try:
            self._store, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            cause = without_credentials(str(error), self.url)
            raise InputError(
                f"{public(self.url)} cannot be used ({cause}); install what its scheme needs "
                "(`pip install s3fs` for s3://), or name a folder"
            ) from None

    def put(self, name: str, data: bytes) -> None:
        """Writes a file, in place of one that is there."""
        path = f"{self._root}/{name}"

        def write() -> None:
            if self._folders:
                self._store.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._store.pipe_file(path, data)

        self._attempt("written", write)

    def get(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        return self._attempt("read", lambda: self._or_none(self._store.cat_file, f"{self._root}/{name}"))

    def get_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Contents of files by name, read at once."""
        paths = {f"{self._root}/{name}": name for name in names}
        if not paths:
            return {}
        found: dict[str, Any] = self._attempt("read", lambda: self._store.cat(list(paths)))
        return {paths[path]: data for path, data in found.items()}

    def files(self, below: str = "") -> list[str]:
        """Names of all files in a folder and below, relative to this place, sorted."""
        start = f"{self._root}/{below}".rstrip("/")

        def listed() -> list[str]:
            self._store.invalidate_cache()  # of listings, for others write here too
            return self._or_none(self._store.find, start) or []

        return sorted(path.removeprefix(f"{self._root}/") for path in self._attempt("listed", listed))

    def remove(self, names: Iterable[str]) -> None:
        """Deletes files; those that are gone already are no fault."""
        for name in names:
            self._attempt("deleted", lambda path=f"{self._root}/{name}": self._or_none(self._store.rm_file, path))

    @staticmethod
    def _or_none(call: Callable[[str], T], path: str) -> T | None:
        try:
            return call(path)
        except FileNotFoundError:
            return None

    def _attempt(self, verb: str, call: Callable[[], T]) -> T:
        end, pause = time.monotonic() + self._patience, FIRST_PAUSE
        while True:
            try:
                return call()
            except Exception as error:  # whatever the store's client raises
                if isinstance(error, _REFUSED) or time.monotonic() + pause > end:
                    cause = without_credentials(first_line(error), self.url)
                    raise Halted(
                        f"{public(self.url)} cannot be {verb} ({cause}); see to that store, or your access to it"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)
