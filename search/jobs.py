"""A cluster's job server: its jobs that run studies, started, followed and stopped."""

import asyncio
import hashlib
import json
import logging
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from search import host
from search.errors import InputError, first_line

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
        host.use_token()  # Ray reads the mode when it is imported
        os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": self.address})  # it prefers that to a call's
        os.environ.pop("RAY_API_SERVER_ADDRESS", None)
        from ray.job_submission import JobSubmissionClient

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
        from ray.exceptions import AuthenticationError

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
