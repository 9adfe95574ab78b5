"""This command as a job of a cluster: sent, followed, left alone, found again and stopped."""

import argparse
import asyncio
import getpass
import hashlib
import json
import logging
import os
import shlex
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

import resnet
import search
from search import cli, execution
from search.errors import InputError, first_line, public
from search.spec import StudySpec, find, shipped
from search.storage import is_url, scratch
from search.study import ENVIRONMENT, planned

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


def job_command(given: argparse.Namespace) -> str:
    """What the job runs, in the folder of `packed`.

    Raises:
        InputError: a flag has a password in it, and everybody on the cluster can read the commands of its jobs.
    """
    file = study_file(given)
    typed = cli.words(given, OF_THIS_MACHINE)
    for word in typed:
        _without_password(word)
    # Without `exec` a shell would stand between the signals of the cluster and the study.
    return "exec " + shlex.join(["python", "-m", "search.run", file.name if file else given.study, *typed])


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the job gets of this process's environment: where the study is tracked, and no secret.

    Raises:
        InputError: there is a password in it.
    """
    passed = {name: environment[name] for name in ENVIRONMENT if environment.get(name)}
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


ANSWER_SECONDS = 5.0  # how long the server may take to answer the first question
AWAY_SECONDS = 60.0  # how long it may be away while a job is followed
POLL_SECONDS = 0.5
STOP_SECONDS = 600  # from SIGTERM, on which trials end their epoch, to SIGKILL
_QUIET = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")


class Away(Exception):  # noqa: N818 - the job goes on
    """The server has not answered for long; a clause that says so."""


@dataclass(frozen=True)
class Job:
    """One job of the server, as it was when asked for."""

    id: str
    study: str | None  # name; None for any other job
    output: str
    user: str
    command: str
    over: bool
    stopped: bool  # by somebody
    exit_code: int | None  # of the command, once it has ended by itself
    message: str


class JobServer:
    """The job server at `address`, asked with the token of this user.

    Raises:
        InputError: it does not answer in seconds, is none, or refuses the token.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        _probe(self.address)
        execution.use_token()  # Ray reads the mode when it is imported, below
        os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": self.address})  # it prefers that to a call's
        os.environ.pop("RAY_API_SERVER_ADDRESS", None)
        from ray.job_submission import JobSubmissionClient  # noqa: PLC0415  as told

        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._answering():
            self._client = JobSubmissionClient(self.address)

    def of(self, study: str, output: str | None, user: str) -> list[Job]:
        """Jobs of the study with this name: in `output`, or, where that is None, of this user; the oldest first."""
        with self._answering():
            found = sorted(self._client.list_jobs(), key=lambda details: details.start_time or 0)
        jobs = [_job(details) for details in found if details.submission_id]
        return [j for j in jobs if j.study == study and (j.user == user if output is None else j.output == output)]

    def start(self, name: str, command: str, folder: Path, variables: dict[str, str], about: dict[str, str]) -> str:
        """Starts a job in a copy of `folder`; its id is `name` and a number.

        Args:
            name: what the number follows.
            command: for a shell.
            folder: shipped whole.
            variables: environment of the job.
            about: what `Job` tells of it.
        """
        patience = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
        environment = {"working_dir": str(folder), "env_vars": variables | patience}
        with self._answering():
            taken = {details.submission_id for details in self._client.list_jobs()}
            number = next(n for n in range(1, len(taken) + 2) if f"{name}-{n}" not in taken)
            return self._client.submit_job(
                entrypoint=command, submission_id=f"{name}-{number}", runtime_env=environment, metadata=about
            )

    def job(self, job: str) -> Job:
        """What is known of it now."""
        with self._answering():
            return _job(self._client.get_job_info(job))

    def follow(self, job: str, write: Callable[[str], None]) -> Job:
        """Writes what the job prints, from its beginning, until it is over.

        Raises:
            Away: the server is not to be reached any more.
            KeyboardInterrupt: on Ctrl-C, at once, whether or not the job prints anything.
        """
        log, away_since = _Log(write), None
        while True:
            try:
                asyncio.run(self._tail(job, log))
                now = self.job(job)
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
            except (OSError, RuntimeError, aiohttp.ClientError, InputError) as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > AWAY_SECONDS:
                    raise Away(f"{self.address} does not answer any more ({first_line(error)})") from None
            else:
                if now.over:
                    return now
                away_since = None
            time.sleep(POLL_SECONDS)

    def stop(self, job: str) -> Job:
        """Asks the job to end where its trials can be continued, and waits until it has."""
        with self._answering():
            self._client.stop_job(job)
        while not (now := self.job(job)).over:
            time.sleep(POLL_SECONDS)
        return now

    async def _tail(self, job: str, log: "_Log") -> None:
        """As long as the server sends the log, which it does until the job ends; cancelled by Ctrl-C."""
        log.begins()
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # we are in it
        # By itself a signal that comes just before the loop falls asleep is seen only when the job prints again.
        loop.add_signal_handler(signal.SIGINT, task.cancel)
        try:
            async for text in self._client.tail_job_logs(job):
                log.add(text)
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        from ray.exceptions import AuthenticationError  # noqa: PLC0415  as in __init__

        try:
            yield
        except AuthenticationError as error:
            wants = "wants a token" if "required" in str(error) else "refuses this token"
            raise InputError(
                f"RAY_ADDRESS = {self.address} {wants}; put the cluster's into ~/.ray/auth_token, or RAY_AUTH_TOKEN"
            ) from None
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"RAY_ADDRESS = {self.address} has failed ({first_line(error)}); see to the cluster"
            ) from None


class _Log:
    """Writes each character of a log once, however often it is sent from its beginning."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._written, self._seen = write, 0, 0

    def begins(self) -> None:
        self._seen = 0

    def add(self, text: str) -> None:
        new = text[max(0, self._written - self._seen) :]
        self._seen += len(text)
        self._written = max(self._written, self._seen)
        if new:
            self._write(new)


def identifier(study: str, output: str) -> str:
    """What the ids of a study's jobs begin with: studies of one name in two folders are two."""
    return f"{study}-{hashlib.sha256(output.encode()).hexdigest()[:6]}"


def _job(details: Any) -> Job:
    about = details.metadata or {}
    return Job(
        id=details.submission_id,
        study=about.get("study"),
        output=about.get("output", ""),
        user=about.get("user", ""),
        command=details.entrypoint,
        over=details.status.is_terminal(),
        stopped=details.status == "STOPPED",
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )


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


DONE, FAILED, INTERRUPTED = 0, 1, 130
REASON = 500  # characters of what Ray says of a job that has failed
OWN = (0, 1, 2, 130)  # what `python -m search.run` exits with


def submit(given: argparse.Namespace, address: str, console: Console) -> int:
    """Runs the command on the cluster behind the job server at `address`; the exit status is the job's.

    A study that runs there already is followed, not started again. Ctrl-C leaves the job to itself.

    Raises:
        InputError: bad input, as far as it can be known here; or the server does not take the job.
    """
    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    command, variables = job_command(given), job_environment(os.environ)
    spec = _checked(given)
    name = spec.name if spec else given.name or given.study
    server = JobServer(address)
    output = str(given.output) if travels(str(given.output)) else None
    jobs = server.of(name, output, _user())
    running = [job for job in jobs if not job.over]
    if len(running) > 1:
        folders = " and ".join(job.output for job in running)
        raise InputError(f"study {name!r} runs in {folders}; say with --output which is meant")
    if given.stop:
        return _stop(server, name, running, out)
    if running:
        job = running[0]
        _attach(given, job, out)
    else:
        if spec is None and not jobs:
            find(given.study)  # says that there is none
        check(given, spec)
        about = {"study": name, "output": str(given.output), "user": _user()}
        with packed(study_file(given)) as folder:
            started = server.start(identifier(name, about["output"]), command, folder, variables, about)
        job = server.job(started)
        out(f"{name}: submitted as job {job.id} to {server.address}")
    return _follow(server, job.id, console, _typed(name, job.output, server.address))


def _checked(given: argparse.Namespace) -> StudySpec | None:
    """The study, checked as far as this machine can; None for one that only the cluster may know, by its name."""
    if given.study not in shipped() and study_file(given) is None:
        return None
    spec = cli.study(given)
    kind, _, path = spec.data.name.partition(":")
    if not path or kind not in ("imagefolder", "npz"):  # those are where the cluster sees them
        here = spec.data.model_copy(update={"dir": None})
        planned(spec.model_copy(update={"data": here}))
    return spec


def _attach(given: argparse.Namespace, job: Job, out: "partial[None]") -> None:
    if given.fresh or given.sync:
        asked = "--fresh" if given.fresh else "--sync"
        raise InputError(f"{asked}: study {job.study!r} is being worked on by job {job.id}; stop it first, with --stop")
    out(f"{job.study}: job {job.id} of {job.user} works on it in {job.output}; what it prints:")
    changes = cli.words(given, (*OF_THIS_MACHINE, "name", "output"))
    if changes and job.command != job_command(given):
        out(f"it was started as `{job.command.removeprefix('exec ')}`, and goes on so; to change it, --stop it first")


def _follow(server: JobServer, job: str, console: Console, typed: str) -> int:
    def write(text: str) -> None:
        console.file.write(text)
        console.file.flush()

    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    try:
        ended = server.follow(job, write)
    except KeyboardInterrupt:
        out(f"\ndetached: job {job} goes on")
        if typed:
            out(f"to follow it: {typed}\nto stop it:   {typed} --stop")
        return INTERRUPTED
    except Away as lost:
        out(f"{lost}; job {job} may go on" + (f", to follow it: {typed}" if typed else ""))
        return FAILED
    if ended.stopped:
        out(f"job {job} was stopped; the same command continues the study")
        return INTERRUPTED
    if ended.exit_code in OWN:
        return int(ended.exit_code)
    out(f"job {job} has failed: {' '.join(ended.message.split())[:REASON] or 'for no reason that Ray knows'}")
    return FAILED


def _stop(server: JobServer, name: str, running: list[Job], out: "partial[None]") -> int:
    if not running:
        raise InputError(f"--stop: no job on {server.address} works on study {name!r} of this user and --output")
    job = running[0]
    out(f"stopping job {job.id}; trials that run come to the end of an epoch first")
    try:
        server.stop(job.id)
    except KeyboardInterrupt:
        out("it stops without being watched")
        return INTERRUPTED
    out(f"stopped; the same command without --stop continues study {name!r}")
    return DONE


def _typed(name: str, output: str, address: str) -> str:
    return shlex.join(["python", "-m", "search.run", name, "--output", output, "--address", address])


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())


def job_server(given: argparse.Namespace) -> str | None:
    """The job server to which the command goes; None where it runs in this process, whichever cluster that joins.

    Raises:
        InputError: --stop without one; a password in the address, which every process of Ray's would show.
    """
    if given.address is not None:
        os.environ["RAY_ADDRESS"] = given.address  # Ray itself reads it, and so do the processes that we start
    where = execution.address()
    if where is not None and public(where) != where:
        raise InputError(
            f"RAY_ADDRESS = {public(where)!r} was given with a password; put the token into RAY_AUTH_TOKEN"
        )
    if where is not None and where.startswith(("http://", "https://")) and not given.dry_run:
        return where
    if given.stop:
        raise InputError("--stop: no job server is named; give --address http://HOST:8265, or set RAY_ADDRESS")
    return None


def check_shared(given: argparse.Namespace, spec: StudySpec) -> None:
    """Refuses to spread trials over several machines when only this one would see what they need, and their results.

    Raises:
        InputError: a relative path is given, and the cluster is more than this machine; or it does not answer.
    """
    where = execution.address()
    if where is None or given.dry_run or given.sync:
        return
    try:
        check_joined(str(given.output), spec)
    except InputError:
        ray = execution.join(where)
        several = execution.machines(ray.nodes()) > 1
        execution.leave()
        if several:
            raise
