"""What takes this command as a job: Ray's job server, or Slurm. What both are asked, and what neither may be given."""

import argparse
import getpass
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from search import cli
from search.errors import InputError, public
from search.spec import StudySpec
from search.storage import is_url

OF_THIS_MACHINE = ("address", "slurm", "stop")  # flags that the job does not get


@dataclass(frozen=True)
class Job:
    """A job, as it was when asked for; study, output and user are empty where it works on no study."""

    id: str
    study: str
    output: str
    user: str
    command: str  # empty where the queue does not tell
    over: bool


@dataclass(frozen=True)
class Look:
    """How a job stands.

    Args:
        printed: what it has printed, but for the bytes that were known.
        waits: what it waits for; empty where it does not.
        over: it has ended.
        status: the exit status of its command; None where it was ended, or has none yet.
        stopped: somebody has ended it.
        reason: why it has failed.
    """

    printed: bytes
    waits: str = ""
    over: bool = False
    status: int | None = None
    stopped: bool = False
    reason: str = ""


class Queue(Protocol):
    """Where the command goes. A method raises InputError where the queue refuses, or does not answer."""

    @property
    def name(self) -> str:
        """Address or program, for a sentence."""
        ...

    def check(self, given: argparse.Namespace) -> StudySpec | None:
        """The study, checked as far as this machine can; None for one that only the queue may know, by its name."""
        ...

    def output(self, given: argparse.Namespace) -> str:
        """Where the job keeps the study."""
        ...

    def command(self, given: argparse.Namespace) -> str:
        """What a job runs."""
        ...

    def script(self, given: argparse.Namespace, name: str) -> str | None:
        """What would be sent, where it is to be printed only."""
        ...

    def jobs(self) -> list[Job]:
        """Those that it knows."""
        ...

    def send(self, given: argparse.Namespace, name: str, taken: list[Job]) -> str:
        """Sends the command; the id of its job, which is none of those that are `taken`."""
        ...

    def look(self, job: str, known: int) -> Look:
        """How a job stands, `known` bytes of what it prints aside; raises OSError or RuntimeError for no answer."""
        ...

    def stop(self, job: str) -> None:
        """Asks a job to end where its trials can be continued."""
        ...

    def again(self, given: argparse.Namespace, name: str, output: str) -> str:
        """The command that follows the job of a study."""
        ...


def check_paths(output: str, spec: StudySpec | None, why: str) -> None:
    """Refuses paths that name something on this machine alone; `why` says in a clause why others must see it.

    Raises:
        InputError: the output, data or a database are named by a relative path.
    """
    if not travels(output):
        raise InputError(
            f"output = {output!r} is a folder of this machine, and {why}; give --output as an absolute path that all "
            "nodes of the cluster share, or as a URL"
        )
    if spec is None:
        return
    path = spec.data.name.partition(":")[2]
    for name, value, shown in (("data.name", path, spec.data.name), ("data.dir", spec.data.dir, spec.data.dir)):
        if value and not (travels(value) or value.startswith("~")):
            raise InputError(
                f"{name} = {shown!r} is a relative path, and {why}; give an absolute one that all nodes see"
            )
    for name, url in (("search.storage", spec.search.storage), ("tracking.uri", spec.tracking.uri)):
        if url and url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
            raise InputError(f"{name} = {url!r} is a relative path, and {why}; give an absolute one, with four slashes")


def travels(path: str) -> bool:
    """Whether a path names the same on another machine, as far as can be seen from here."""
    return is_url(path) or path.startswith("/")


def typed(given: argparse.Namespace, *more: str) -> list[str]:
    """The flags of the job, but for `more`; everybody on its machines can read them.

    Raises:
        InputError: a flag has a password in it.
    """
    words = cli.words(given, (*OF_THIS_MACHINE, *more))
    for word in words:
        refuse_password(word)
    return words


def study_file(given: argparse.Namespace) -> Path | None:
    """The study's file, where it is given as one and not by name."""
    path = Path(given.study).expanduser()
    return path if path.suffix in (".yaml", ".yml") else None


def refuse_password(word: str) -> None:
    """Raises InputError where there is a password in it."""
    if public(word) != word:
        raise InputError(
            f"{public(word)}: its password would be seen by everybody on the cluster; leave it out, and "
            "set it in the environment of the cluster's nodes, or in the study's file"
        )


def python(*words: str) -> str:
    """A command to be typed."""
    return shlex.join(["python", "-m", "search.run", *words])


def user() -> str:
    """Who calls."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())
