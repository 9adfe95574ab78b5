"""Where studies are kept: a folder, or a URL that fsspec knows."""

import argparse
import hashlib
import re
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]

from search.errors import Halted, InputError, first_line, public, without_credentials
from search.storage import scratch
from search.storage.paths import user_cache

T = TypeVar("T")

PATIENCE = 60.0  # seconds for which a store that fails is tried again
FIRST_PAUSE, LAST_PAUSE = 0.5, 8.0  # seconds between attempts: doubled up to the last
# Object stores have no folders; asked to make one, their clients would make a bucket that does not exist.
_WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "r2"}
_REFUSED = (PermissionError, FileNotFoundError, NotImplementedError, TypeError)  # the same again would end the same


def is_url(text: str) -> bool:
    """Whether it names a place by scheme, as in s3://bucket/results."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def opened(url: str) -> tuple[Any, str]:
    """The store of a URL, and the path in it; raises ImportError or ValueError where fsspec does not know it."""
    return cast(tuple[Any, str], fsspec.core.url_to_fs(url))  # pyright: ignore[reportUnknownMemberType]


@contextmanager
def local_copy(file: str) -> Generator[str]:
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
            self._store, self._root = opened(self.url)
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


PRIVATE = 0o700  # what is in a study's folder says what it was trained on, and MLflow runs code that lies beside it


class SecretInOutput(InputError, argparse.ArgumentTypeError):  # noqa: N818 - so argparse tells the sentence
    """The output is a URL with a secret in it."""


@dataclass(frozen=True)
class Output:
    """`given` as a user writes it: a path, or a URL of fsspec.

    Raises:
        SecretInOutput: there is a password in it.
    """

    given: str

    def __post_init__(self) -> None:
        if public(self.given) != self.given:
            raise SecretInOutput(
                f"output = {public(self.given)!r} was given with a password or key, which would be kept with the study "
                "and seen by every user of this machine; leave it out, and set it in the environment "
                "(AWS_SECRET_ACCESS_KEY, or FSSPEC_FTP_PASSWORD for ftp://)"
            )

    def __str__(self) -> str:
        return self.given

    @property
    def url(self) -> str | None:
        """The URL without a slash at its end; None for a folder."""
        return self.given.rstrip("/") if is_url(self.given) and not self.given.startswith("file://") else None

    @property
    def path(self) -> Path:
        """The folder; for a URL that of this machine's copies."""
        if self.url is None:
            return Path(self.given.removeprefix("file://"))
        return user_cache() / "resnet-search" / "studies" / hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def place(self, study: str) -> str:
        """Path or URL of a study."""
        return f"{self.url}/{study}" if self.url else str(self.path / study)

    def make(self, study: str) -> None:
        """Makes the folder, and that of a study in it, for their owner alone; one that is there stays as it is.

        Raises:
            OSError: it cannot be made.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.path / study):
            folder.mkdir(PRIVATE, exist_ok=True)
