"""This command as a job of a cluster: sent, followed, left alone, found again and stopped."""

import argparse
import getpass
import json
import logging
import os
import shlex
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

import resnet
import search
from search import cli, execution
from search import study as studies
from search.errors import InputError, first_line, public
from search.spec import StudySpec, find, shipped
from search.storage import is_url, scratch
from search.study import ENVIRONMENT

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

OF_THIS_MACHINE = ("address", "stop")  # flags that the job does not get
ANSWER_SECONDS = 5.0  # how long the server may take to answer the first question
AWAY_SECONDS = 60.0  # how long it may be away while a job is followed
POLL_SECONDS = 0.5
STOP_SECONDS = 600  # from SIGTERM, on which trials end their epoch, to SIGKILL
REASON = 500  # characters of what Ray says of a job that has failed
DONE, FAILED, INTERRUPTED = 0, 1, 130
OWN = (0, 1, 2, 130)  # what `python -m search.run` exits with
_TALKATIVE = ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging")


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
        return where.rstrip("/")
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
        check_paths(str(given.output), spec, "trials run on several machines")
    except InputError:
        ray = execution.join(where)
        several = execution.machines(ray.nodes()) > 1
        execution.leave()
        if several:
            raise


def check_paths(output: str, spec: StudySpec | None, why: str) -> None:
    """Refuses paths that name something on this machine alone; `why` says in a clause why others must see it.

    Raises:
        InputError: the output, data or a database are named by a relative path.
    """
    if not _travels(output):
        raise InputError(
            f"output = {output!r} is a folder of this machine, and {why}; give --output as an absolute path that all "
            "nodes of the cluster share, or as a URL"
        )
    if spec is None:
        return
    path = spec.data.name.partition(":")[2]
    for name, value, shown in (("data.name", path, spec.data.name), ("data.dir", spec.data.dir, spec.data.dir)):
        if value and not (_travels(value) or value.startswith("~")):
            raise InputError(
                f"{name} = {shown!r} is a relative path, and {why}; give an absolute one that all nodes see"
            )
    for name, url in (("search.storage", spec.search.storage), ("tracking.uri", spec.tracking.uri)):
        if url and url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
            raise InputError(f"{name} = {url!r} is a relative path, and {why}; give an absolute one, with four slashes")


def submit(given: argparse.Namespace, address: str, console: Console) -> int:
    """Runs the command on the cluster behind the job server at `address`; the exit status is the job's.

    A study that runs there already is followed, not started again. Ctrl-C leaves the job to itself.

    Raises:
        InputError: bad input, as far as it can be known here; or the server does not take the job.
    """
    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    command, variables = _command(given), _environment()
    spec = _checked(given)
    name, output = spec.name if spec else given.name or given.study, str(given.output)
    _probe(address)
    with _answering(address):
        client = _client(address)
        jobs = [_Job.of(details) for details in client.list_jobs() if details.submission_id]
    known = [job for job in jobs if job.study == name]
    running = [job for job in known if not job.over and _is_meant(job, output)]
    if len(running) > 1:
        folders = " and ".join(sorted(job.output for job in running))
        raise InputError(f"study {name!r} runs in {folders}; say with --output which is meant")
    if given.stop and not running:
        raise InputError(f"--stop: no job on {address} works on study {name!r} of this user and --output")
    if given.stop:
        return _stop(client, running[0].id, address, out)
    if running:
        job, output = running[0].id, running[0].output
        _attach(given, running[0], command, out)
    else:
        if spec is None and not known:
            find(given.study)  # says that there is none
        check_paths(output, spec, "the job runs on the cluster")
        taken = {each.id for each in jobs}
        job = next(n for n in (f"{name}-{number}" for number in range(1, len(taken) + 2)) if n not in taken)
        about = {"study": name, "output": output, "user": _user()}
        with _packed(_study_file(given)) as folder, _answering(address):
            runtime = {"working_dir": str(folder), "env_vars": variables}
            client.submit_job(entrypoint=command, submission_id=job, runtime_env=runtime, metadata=about)
        out(f"{name}: submitted as job {job} to {address}")
    again = shlex.join(["python", "-m", "search.run", name, "--output", output, "--address", address])
    return _follow(client, job, console, again, address)


@dataclass(frozen=True)
class _Job:
    """One job of the server, as it was when asked for; study, output and user are empty for any other job."""

    id: str
    study: str
    output: str
    user: str
    command: str
    over: bool

    @classmethod
    def of(cls, details: "JobDetails") -> "_Job":
        about = details.metadata or {}
        study, output, user = (about.get(key, "") for key in ("study", "output", "user"))
        return cls(details.submission_id or "", study, output, user, details.entrypoint, details.status.is_terminal())


def _is_meant(job: _Job, output: str) -> bool:
    """Whether a job of this study's name is that of `output`, or of this user where that names nothing there."""
    return job.output == output if _travels(output) else job.user == _user()


def _attach(given: argparse.Namespace, job: _Job, command: str, out: "partial[None]") -> None:
    if given.fresh or given.sync:
        asked = "--fresh" if given.fresh else "--sync"
        raise InputError(f"{asked}: job {job.id} works on study {job.study!r}; stop it first, with --stop")
    out(f"{job.study}: job {job.id} of {job.user} works on it in {job.output}; what it prints:")
    if cli.words(given, (*OF_THIS_MACHINE, "name", "output")) and job.command != command:
        started = job.command.removeprefix("exec ")
        out(f"it was started as `{started}`, and goes on so; to change it, --stop it first")


def _follow(client: "JobSubmissionClient", job: str, console: Console, again: str, address: str) -> int:
    """Writes what the job prints, from its beginning, until it is over; the exit status."""
    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    written, answered, pause = 0, time.monotonic(), POLL_SECONDS
    try:
        while True:
            asked = time.monotonic()
            try:
                details = client.get_job_info(job)  # before the log: what it printed at last is in the log then
                log = client.get_job_logs(job)
            except (OSError, RuntimeError) as error:
                if asked - answered > AWAY_SECONDS:
                    cause = f"{address} does not answer any more ({first_line(error)})"
                    out(f"{cause}; job {job} may go on, to follow it: {again}")
                    return FAILED
            else:
                answered = time.monotonic()
                console.file.write(log[written:])
                console.file.flush()
                written, pause = len(log), max(POLL_SECONDS, 10 * (answered - asked))  # a long log takes its time
                if details.status.is_terminal():
                    break
            time.sleep(pause)
    except KeyboardInterrupt:
        out(f"\ndetached: job {job} goes on\nto follow it: {again}\nto stop it:   {again} --stop")
        return INTERRUPTED
    if details.status == "STOPPED":
        out(f"job {job} was stopped; the same command continues the study")
        return INTERRUPTED
    if details.driver_exit_code in OWN:
        return int(details.driver_exit_code)
    reason = " ".join((details.message or "").split())[:REASON]
    out(f"job {job} has failed: {reason or 'for no reason that Ray knows'}")
    return FAILED


def _stop(client: "JobSubmissionClient", job: str, address: str, out: "partial[None]") -> int:
    out(f"stopping job {job}; trials that run come to the end of an epoch first")
    try:
        with _answering(address):
            client.stop_job(job)
            while not client.get_job_info(job).status.is_terminal():
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        out("it stops without being watched")
        return INTERRUPTED
    out("stopped; the same command without --stop continues the study")
    return DONE


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


def _checked(given: argparse.Namespace) -> StudySpec | None:
    """The study, checked as far as this machine can; None for one that only the cluster may know, by its name."""
    if given.study not in shipped() and _study_file(given) is None:
        return None
    spec = cli.study(given)
    kind, _, path = spec.data.name.partition(":")
    if not path or kind not in ("imagefolder", "npz"):  # those are where the cluster sees them
        studies.planned(spec.model_copy(update={"data": spec.data.model_copy(update={"dir": None})}))
    return spec


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


def _study_file(given: argparse.Namespace) -> Path | None:
    """The study's file, where it is given as one and not by name."""
    path = Path(given.study).expanduser()
    return path if path.suffix in (".yaml", ".yml") else None


def _command(given: argparse.Namespace) -> str:
    """What the job runs, in the folder of `_packed`; everybody on the cluster can read it.

    Raises:
        InputError: a flag has a password in it.
    """
    file, typed = _study_file(given), cli.words(given, OF_THIS_MACHINE)
    for word in typed:
        _without_password(word)
    # Without `exec` a shell would stand between the signals of the cluster and the study.
    return "exec " + shlex.join(["python", "-m", "search.run", file.name if file else given.study, *typed])


def _environment() -> dict[str, str]:
    """What the job gets of this process's environment: where the study is tracked, and no secret.

    Raises:
        InputError: there is a password in it.
    """
    passed = {name: os.environ[name] for name in ENVIRONMENT if os.environ.get(name)}
    for name, value in passed.items():
        _without_password(f"{name}={value}")
    return passed | {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}


def _without_password(word: str) -> None:
    if public(word) != word:
        raise InputError(
            f"{public(word)}: its password would be seen by everybody on the cluster; leave it out, and "
            "set it in the environment of the cluster's nodes, or in the study's file"
        )


def _travels(path: str) -> bool:
    """Whether a path names the same on another machine, as far as can be seen from here."""
    return is_url(path) or path.startswith("/")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())
