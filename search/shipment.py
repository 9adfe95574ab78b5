"""What travels to a cluster with a job: this code, the study's file and the command, and what must not."""

import argparse
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import resnet
import search
from search import arguments as flags
from search import scratch
from search.errors import InputError
from search.redact import public
from search.remote import is_url
from search.study_spec import StudySpec

OF_THIS_MACHINE = ("address", "stop")  # flags that the job does not get


@contextmanager
def packed(study: Path | None) -> Iterator[Path]:
    """A folder with the packages and the study's file, and with nothing else of this machine."""
    with scratch.folder() as folder:
        for package in (resnet, search):
            source = Path(package.__path__[0])
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        project = Path(search.__path__[0]).parent / "pyproject.toml"
        for file in (project, study):
            if file is not None and file.is_file():
                shutil.copy(file, folder / file.name)
        yield folder


def study_file(given: argparse.Namespace) -> Path | None:
    """The study's file, where it is given as one and not by name."""
    path = Path(given.study).expanduser()
    return path if path.suffix in (".yaml", ".yml") else None


def command(given: argparse.Namespace) -> str:
    """What the job runs, in the folder of `packed`.

    Raises:
        InputError: a flag has a password in it, and everybody on the cluster can read the commands of its jobs.
    """
    file = study_file(given)
    typed = flags.words(given, OF_THIS_MACHINE)
    for word in typed:
        _without_password(word)
    # Without `exec` a shell would stand between the signals of the cluster and the study.
    return "exec " + shlex.join(["python", "-m", "search.run", file.name if file else given.study, *typed])


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What the job gets of this process's environment: where the study is tracked, and no secret.

    Raises:
        InputError: there is a password in it.
    """
    passed = {name: environment[name] for name in flags.ENVIRONMENT if environment.get(name)}
    for name, value in passed.items():
        _without_password(f"{name}={value}")
    return passed


def check(given: argparse.Namespace, spec: StudySpec | None) -> None:
    """Refuses paths of this machine, where the job does not run.

    Raises:
        InputError: the output folder, data or a database are named by a relative path.
    """
    output = str(given.output)
    if not travels(output):
        raise InputError(
            f"output = {output!r} is a folder of this machine, and the job runs on the cluster; give --output as "
            "an absolute path that all its nodes share, or as a URL"
        )
    if spec is not None:
        check_data(spec, "the job runs on the cluster")


def check_data(spec: StudySpec, why: str) -> None:
    """Refuses data and databases that are named by a relative path.

    Raises:
        InputError: one is.
    """
    kind, _, path = spec.data.name.partition(":")
    for name, value in (("data.name", path), ("data.dir", spec.data.dir or "")):
        if value and not (travels(value) or value.startswith("~")):
            shown = f"{kind}:{value}" if name == "data.name" else value
            raise InputError(
                f"{name} = {shown!r} is a relative path, and {why}; give an absolute one that all nodes see"
            )
    for name, url in (("search.storage", spec.search.storage), ("tracking.uri", spec.tracking.uri)):
        if url and url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
            raise InputError(f"{name} = {url!r} is a relative path, and {why}; give an absolute one, with four slashes")


def check_joined(output: str, spec: StudySpec) -> None:
    """Refuses, for a cluster of several machines, what only the driver's machine would see.

    Raises:
        InputError: it is named by a relative path.
    """
    if not travels(output):
        raise InputError(
            f"output = {output!r} is a folder of this machine alone, and trials run on others, too; give --output as "
            "an absolute path that all machines of the cluster share, or as a URL"
        )
    check_data(spec, "trials run on several machines")


def travels(path: str) -> bool:
    """Whether a path names the same on another machine, as far as can be seen from here."""
    return is_url(path) or path.startswith("/")


def _without_password(word: str) -> None:
    if public(word) != word:
        raise InputError(
            f"{public(word)}: its password would be seen by everybody on the cluster; leave it out, and "
            "set it in the environment of the cluster's nodes, or in the study's file"
        )
