"""Where studies are kept: a folder, or a URL."""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

from search.data_cache import user_cache
from search.errors import InputError
from search.redact import public
from search.remote import Remote, is_url
from search.study_files import STUDY_FILE
from search.whole_file import replace

__all__ = ["STUDY_FILE", "Output"]

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

    def make(self, study: str) -> None:
        """Makes the folder, and that of a study in it, for their owner alone; one that is there stays as it is.

        Raises:
            OSError: it cannot be made.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.path / study):
            folder.mkdir(PRIVATE, exist_ok=True)

    def file(self, study: str, name: str) -> Path | None:
        """A file of a study, brought here from a URL; None where there is none.

        Raises:
            Halted: the URL does not answer.
        """
        if Path(study).name != study:
            return None  # a path is no name: it would lead out of this place
        kept = self.path / study / name
        if self.url is not None:
            found = Remote(f"{self.url}/{study}", patience=0).get(name)
            if found is None:
                return None
            self.make(study)
            replace(kept, found)
        return kept if kept.is_file() else None
