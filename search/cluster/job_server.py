"""A Ray cluster's job server as a queue of jobs, reached from afar."""

import argparse
import json
import logging
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import resnet
import search
from search import cli, execution
from search import study as studies
from search.cluster.job import Job, Look, python, refuse_password, study_file, typed, user
from search.errors import InputError, first_line, public
from search.spec import StudySpec, shipped
from search.storage import scratch
from search.study import ENVIRONMENT

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

ANSWER_SECONDS = 5.0  # how long the server may take to answer the first question
STOP_SECONDS = 600  # from SIGTERM, on which trials end their epoch, to SIGKILL
REASON = 500  # characters of what Ray says of a job that has failed
# Names of loggers below `ray.`; where one is called otherwise it says a line more.
_TALKATIVE = ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging")


@dataclass(frozen=True)
class JobServer:
    """The job server of a Ray cluster, at `name`."""

    name: str

    @classmethod
    def of(cls, given: argparse.Namespace) -> Self | None:
        """The one that RAY_ADDRESS or --address names, if that is one.

        Raises:
            InputError: a password in the address, which every process of Ray's would show.
        """
        if given.address is not None:
            os.environ["RAY_ADDRESS"] = given.address  # Ray itself reads it, and so do the processes that we start
        where = execution.address()
        if where is not None and public(where) != where:
            raise InputError(
                f"RAY_ADDRESS = {public(where)!r} was given with a password; put the token into RAY_AUTH_TOKEN"
            )
        return cls(where.rstrip("/")) if where is not None and where.startswith(("http://", "https://")) else None

    def check(self, given: argparse.Namespace) -> StudySpec | None:
        _environment()  # a password in it is refused before the server is asked
        if given.study not in shipped() and study_file(given) is None:
            return None
        spec = cli.study(given)
        kind, _, path = spec.data.name.partition(":")
        if not path or kind not in ("imagefolder", "npz"):  # those are where the cluster sees them
            studies.planned(spec.model_copy(update={"data": spec.data.model_copy(update={"dir": None})}))
        return spec

    def output(self, given: argparse.Namespace) -> str:
        return str(given.output)

    def command(self, given: argparse.Namespace) -> str:
        """In the folder of `_packed`."""
        file, words = study_file(given), typed(given)
        return "exec " + python(file.name if file else given.study, *words)

    def script(self, given: argparse.Namespace, name: str) -> None:
        return None

    def jobs(self) -> list[Job]:
        """All of the server, those that have ended too."""
        _probe(self.name)
        with _answering(self.name):
            return [_job(details) for details in self._client.list_jobs() if details.submission_id]

    def send(self, given: argparse.Namespace, name: str, taken: list[Job]) -> str:
        """The packages and the study's file go along."""
        ids = {job.id for job in taken}
        job = next(n for n in (f"{name}-{number}" for number in range(1, len(ids) + 2)) if n not in ids)
        about = {"study": name, "output": self.output(given), "user": user()}
        with _packed(study_file(given)) as folder, _answering(self.name):
            runtime = {"working_dir": str(folder), "env_vars": _environment()}
            self._client.submit_job(
                entrypoint=self.command(given), submission_id=job, runtime_env=runtime, metadata=about
            )
        return job

    def look(self, job: str, known: int) -> Look:
        details = self._client.get_job_info(job)  # before the log: what it printed at last is in the log then
        log = self._client.get_job_logs(job).encode()
        return Look(
            log[known:],
            over=details.status.is_terminal(),
            status=details.driver_exit_code,
            stopped=details.status == "STOPPED",
            reason=" ".join((details.message or "").split())[:REASON],
        )

    def stop(self, job: str) -> None:
        with _answering(self.name):
            self._client.stop_job(job)

    def again(self, given: argparse.Namespace, name: str, output: str) -> str:
        return python(name, "--output", output, "--address", self.name)

    @cached_property
    def _client(self) -> "JobSubmissionClient":
        return _client(self.name)


def _job(details: "JobDetails") -> Job:
    about = details.metadata or {}
    study, output, user = (about.get(key, "") for key in ("study", "output", "user"))
    return Job(details.submission_id or "", study, output, user, details.entrypoint, details.status.is_terminal())


def _client(address: str) -> "JobSubmissionClient":
    """Of the job server at `address`, asked with the token of this user."""
    execution.use_token()  # Ray reads the mode when it is imported, below
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": address}  # it prefers that to a call's
    os.environ.pop("RAY_API_SERVER_ADDRESS", None)
    from ray.job_submission import JobSubmissionClient  # noqa: PLC0415  as told

    for name in _TALKATIVE:
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    return JobSubmissionClient(address)


def _probe(address: str) -> None:
    """Ray's client waits for minutes where nobody answers."""
    remedy = "correct --address, or open the way to it, such as by `ray dashboard` or ssh -L"
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=ANSWER_SECONDS) as answer:
            if "ray_version" in json.load(answer):
                return
    except urllib.error.HTTPError as refused:
        if refused.code in (401, 403):
            return  # it wants a token
    except (OSError, ValueError) as error:
        raise InputError(f"RAY_ADDRESS = {address} does not answer ({first_line(error)}); {remedy}") from None
    raise InputError(f"RAY_ADDRESS = {address} is no job server of a Ray cluster; {remedy}")


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """While it is entered, what the server refuses or does not answer is an InputError."""
    try:
        yield
    except Exception as error:
        from ray.exceptions import AuthenticationError  # noqa: PLC0415  as in `_client`

        if isinstance(error, AuthenticationError):
            wants = "wants a token" if "required" in str(error) else "refuses this token"
            raise InputError(
                f"RAY_ADDRESS = {address} {wants}; put the cluster's into ~/.ray/auth_token, or RAY_AUTH_TOKEN"
            ) from None
        if not isinstance(error, OSError | RuntimeError | ValueError):
            raise
        raise InputError(f"RAY_ADDRESS = {address} has failed ({first_line(error)}); see to the cluster") from None


@contextmanager
def _packed(study: Path | None) -> Iterator[Path]:
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


def _environment() -> dict[str, str]:
    """What the job gets of this process's environment: where the study is tracked, and no secret.

    Raises:
        InputError: there is a password in it.
    """
    passed = {name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)}
    for name, value in passed.items():
        refuse_password(f"{name}={value}")
    return passed | {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
