"""This command as a job of a cluster: submitted, followed, left alone, found again and stopped."""

import argparse
import getpass
import os
import shlex
from functools import partial

from rich.console import Console

from search import arguments as flags
from search import shipment
from search.errors import InputError
from search.jobs import Away, Job, JobServer, identifier
from search.preflight import planned
from search.study_spec import StudySpec, find, shipped

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
    command, variables = shipment.command(given), shipment.variables(os.environ)
    if given.check_cluster:
        server = JobServer(address)
        with shipment.packed(None) as folder:
            job = server.start("check-cluster", command, folder, {}, {})
        return _follow(server, job, console, "")
    spec = _checked(given)
    name = spec.name if spec else given.name or given.study
    server = JobServer(address)
    output = str(given.output) if shipment.travels(str(given.output)) else None
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
        shipment.check(given, spec)
        about = {"study": name, "output": str(given.output), "user": _user()}
        with shipment.packed(shipment.study_file(given)) as folder:
            started = server.start(identifier(name, about["output"]), command, folder, variables, about)
        job = server.job(started)
        out(f"{name}: submitted as job {job.id} to {server.address}")
    return _follow(server, job.id, console, _typed(name, job.output, server.address))


def _checked(given: argparse.Namespace) -> StudySpec | None:
    """The study, checked as far as this machine can; None for one that only the cluster may know, by its name."""
    asked = argparse.Namespace(**vars(given) | {"sync": False})
    if given.study not in shipped() and shipment.study_file(given) is None:
        return None
    spec = flags.study(asked, dict(os.environ))
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
    changes = flags.words(given, (*shipment.OF_THIS_MACHINE, "name", "output"))
    if changes and job.command != shipment.command(given):
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
