"""This command as a job of a cluster: sent, followed, left alone, found again and stopped."""

import argparse
import codecs
import time
from functools import partial

from rich.console import Console

from search import cli, execution
from search.cluster.job import OF_THIS_MACHINE, Job, Queue, check_paths, travels, user
from search.cluster.job_server import JobServer
from search.cluster.slurm import Slurm
from search.errors import InputError, first_line
from search.spec import StudySpec, find

AWAY_SECONDS = 60.0  # how long the queue may not answer while a job is followed
POLL_SECONDS = 0.5
DONE, FAILED, INTERRUPTED = 0, 1, 130
OWN = (0, 1, 2, 130)  # what `python -m search.run` exits with


def queue(given: argparse.Namespace) -> Queue | None:
    """To what the command goes as a job; None where it runs in this process, whichever cluster that joins.

    Raises:
        InputError: --stop without one; bad words of --slurm; a password in the address of a job server.
    """
    if given.slurm is not None:
        found = Slurm.of(given)
    else:
        found = JobServer.of(given)
        if found is None and given.stop:
            raise InputError("--stop: no job server is named; give --address http://HOST:8265, or set RAY_ADDRESS")
    return None if given.dry_run else found


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


def submit(given: argparse.Namespace, queue: Queue, console: Console) -> int:
    """Runs the command as a job; the exit status is the job's.

    A study that runs there already is followed, not started again. Ctrl-C leaves the job to itself.

    Raises:
        InputError: bad input, as far as it can be known here; or the queue does not take the job.
    """
    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    command, spec = queue.command(given), queue.check(given)
    name, output = spec.name if spec else given.name or given.study, queue.output(given)
    script = queue.script(given, name)
    if script is not None:
        console.file.write(script)
        return DONE
    jobs = queue.jobs()
    known = [job for job in jobs if job.study == name]
    running = [job for job in known if not job.over and _is_meant(job, output)]
    if len(running) > 1:
        folders = " and ".join(sorted(job.output for job in running))
        raise InputError(f"study {name!r} runs in {folders}; say with --output which is meant")
    if given.stop and not running:
        raise InputError(f"--stop: no job on {queue.name} works on study {name!r} of this user and --output")
    if given.stop:
        return _stop(queue, running[0].id, out)
    if running:
        job, output = running[0].id, running[0].output
        _attach(given, running[0], command, out)
    else:
        if spec is None and not known:
            find(given.study)  # says that there is none
        check_paths(output, spec, "the job runs on the cluster")
        job = queue.send(given, name, jobs)
        out(f"{name}: submitted as job {job} to {queue.name}")
    return _follow(queue, job, console, queue.again(given, name, output))


def _is_meant(job: Job, output: str) -> bool:
    """Whether a job of this study's name is that of `output`, or of this user where that names nothing there."""
    return job.output == output if travels(output) else job.user == user()


def _attach(given: argparse.Namespace, job: Job, command: str, out: "partial[None]") -> None:
    if given.fresh or given.sync:
        asked = "--fresh" if given.fresh else "--sync"
        raise InputError(f"{asked}: job {job.id} works on study {job.study!r}; stop it first, with --stop")
    out(f"{job.study}: job {job.id} of {job.user} works on it in {job.output}; what it prints:")
    if job.command and cli.words(given, (*OF_THIS_MACHINE, "name", "output")) and job.command != command:
        started = job.command.removeprefix("exec ")
        out(f"it was started as `{started}`, and goes on so; to change it, --stop it first")


def _follow(queue: Queue, job: str, console: Console, again: str) -> int:
    """Writes what the job prints, from its beginning, until it is over; the exit status."""
    out = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    text = codecs.getincrementaldecoder("utf-8")("replace")
    written, waits, answered, pause = 0, "", time.monotonic(), POLL_SECONDS
    try:
        while True:
            asked = time.monotonic()
            try:
                look = queue.look(job, written)
            except (OSError, RuntimeError) as error:
                if asked - answered > AWAY_SECONDS:
                    cause = f"{queue.name} does not answer any more ({first_line(error)})"
                    out(f"{cause}; job {job} may go on, to follow it: {again}")
                    return FAILED
            else:
                answered = time.monotonic()
                console.file.write(text.decode(look.printed))
                console.file.flush()
                written += len(look.printed)
                pause = max(POLL_SECONDS, 10 * (answered - asked))  # a long log takes its time
                if look.waits and look.waits != waits:
                    out(f"job {job} waits: {look.waits}")
                waits = look.waits
                if look.over:
                    break
            time.sleep(pause)
    except KeyboardInterrupt:
        out(f"\ndetached: job {job} goes on\nto follow it: {again}\nto stop it:   {again} --stop")
        return INTERRUPTED
    if look.stopped:
        out(f"job {job} was stopped; the same command continues the study")
        return INTERRUPTED
    if look.status in OWN:
        return look.status
    out(f"job {job} has failed: {look.reason or f'for no reason that {queue.name} knows'}")
    return FAILED


def _stop(queue: Queue, job: str, out: "partial[None]") -> int:
    out(f"stopping job {job}; trials that run come to the end of an epoch first")
    try:
        queue.stop(job)
        while not queue.look(job, 0).over:
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        out("it stops without being watched")
        return INTERRUPTED
    except (OSError, RuntimeError) as error:
        raise InputError(f"{queue.name} has failed ({first_line(error)}); see to the cluster") from None
    out("stopped; the same command without --stop continues the study")
    return DONE
