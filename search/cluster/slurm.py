"""Slurm as a queue of jobs: a batch script whose job goes back into the queue until its study has ended."""

import argparse
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import search
from search import cli
from search import study as studies
from search.cluster.job import Job, Look, python, study_file, typed, user
from search.errors import InputError, hint
from search.spec import StudySpec

OPTIONS = ("account", "constraint", "cpus-per-task", "gres", "mem", "partition", "qos", "reservation")  # of sbatch
KEYS: list[str] = sorted((*OPTIONS, "nodes", "print", "time"))
LEAST_MINUTES = 5  # of a start of the job
END_SECONDS = 120  # before its time limit, when Slurm sends USR1; up to a minute earlier
WAITING = ("CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "STOPPED", "SUSPENDED")
AT_WORK = ("COMPLETING", "RESIZING", "RUNNING", "SIGNALING", "STAGE_OUT")  # any other state is an end
ONE_MACHINE = ("/dev/shm", "/run", "/tmp", "/var/tmp")  # folders that no machine shares with another
_UNITS = {"s": 1 / 60, "m": 1, "h": 60, "d": 24 * 60}  # minutes
_SCRIPT = """\
#!/bin/bash
# Study {name}: Ray on all nodes of this job, the study on the first one. Before the time limit USR1 comes; then trials
# come to the end of an epoch, and the job goes back into the queue. Once the study has ended it does not.
{directives}
cd {folder}
export PYTHONPATH={project}:$PYTHONPATH
exec {python} -m search.cluster.allocation {output} {command}
"""


@dataclass(frozen=True)
class Slurm:
    """What is asked of Slurm.

    Args:
        options: of sbatch, by their names.
        nodes: machines.
        minutes: that a start of the job may take; None: as the partition has it.
        printed: the script is to be printed, and nothing sent.
        folder: where studies are kept, and what jobs print.
    """

    options: Mapping[str, str]
    nodes: int
    minutes: int | None
    printed: bool
    folder: Path

    name = "Slurm"

    @classmethod
    def of(cls, given: argparse.Namespace) -> Self:
        """What --slurm and --output say.

        Raises:
            InputError: they cannot be read; other machines would not see the folder; there is no Slurm here.
        """
        words: dict[str, str] = {}
        for word in filter(None, given.slurm.split(",")):
            key, _, value = word.partition("=")
            if key not in KEYS:
                raise InputError(f"--slurm {word}: {key!r} is not a key; {hint(key, KEYS)}")
            if not re.fullmatch(r"[^\s'\"\\]+", value):
                raise InputError(f"--slurm {word}: {key} needs one word; write {key}=VALUE")
            words[key] = value
        printed = words.get("print", "false")
        if printed not in ("true", "false"):
            raise InputError(f"--slurm print={printed} is neither; write print=true, or leave it out")
        asked = cls(
            {key: value for key, value in words.items() if key in OPTIONS},
            _nodes(words.get("nodes", "1")),
            _minutes(words["time"]) if "time" in words else None,
            printed == "true",
            _shared(given),
        )
        if not asked.printed and shutil.which("sbatch") is None:
            raise InputError("--slurm: sbatch is not on this machine's PATH; call it where Slurm is, or add print=true")
        return asked

    def check(self, given: argparse.Namespace) -> StudySpec:
        spec = cli.study(given)
        if not given.stop:
            studies.planned(spec)
        return spec

    def output(self, given: argparse.Namespace) -> str:
        return str(self.folder)

    def command(self, given: argparse.Namespace) -> str:
        """The words behind `python -m search.run`."""
        file = study_file(given)
        study = str(file.absolute()) if file else given.study
        return shlex.join([study, f"--output={self.folder}", *typed(given, "output")])

    def script(self, given: argparse.Namespace, name: str) -> str | None:
        return self._script(given, name) if self.printed else None

    def jobs(self) -> list[Job]:
        """Those of this user that have not ended."""
        try:
            lines = _asked("squeue", "--noheader", "--me", "--format=%i|%j|%Z").splitlines()
        except RuntimeError as error:
            raise InputError(f"--slurm: squeue has failed ({error}); see that Slurm runs") from None
        found = (line.split("|", 2) for line in lines)
        return [Job(number, study, folder, user(), "", over=False) for number, study, folder in found]

    def send(self, given: argparse.Namespace, name: str, taken: list[Job]) -> str:
        """What the study needs from elsewhere is fetched here, for nodes may have no way out.

        Slurm keeps the script and the environment of this process, for this user and for administrators.
        """
        studies.fetch(cli.study(given), given.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        sent = _called("sbatch", "--parsable", text=self._script(given, name))
        if sent.returncode:
            cause = " ".join(sent.stderr.split()).removeprefix("sbatch: error: ")
            raise InputError(f"--slurm {given.slurm}: sbatch refuses it ({cause}); correct it")
        return sent.stdout.strip().partition(";")[0]

    def look(self, job: str, known: int) -> Look:
        asked = ("squeue", "--noheader", "--states=all", f"--jobs={job}", "--Format=State:30,exit_code:20,Reason:200")
        found = _asked(*asked).split(None, 2)  # before the log: what the job printed at last is in the log then
        log = self.folder / f"slurm-{job}.out"
        printed = log.read_bytes()[known:] if log.exists() else b""
        if not found:
            return Look(printed, over=True, reason=f"Slurm knows it no more; what it printed is in {log}")
        state, status, reason = found[0], os.waitstatus_to_exitcode(int(found[1])), found[2].strip()
        if state in WAITING:
            return Look(printed, waits="its turn" if reason == "None" else reason)
        if state in AT_WORK:
            return Look(printed)
        ended = status if state in ("COMPLETED", "FAILED") else None
        why = f"{state} ({reason}), exit status {status}; what it printed is in {log}"
        return Look(printed, over=True, status=ended, stopped=state == "CANCELLED", reason=why)

    def stop(self, job: str) -> None:
        # While it runs the batch script alone gets the signal; Slurm's own way would end Ray, too.
        gently = () if self.look(job, 0).waits else ("--signal=TERM", "--batch")
        _asked("scancel", *gently, job)

    def again(self, given: argparse.Namespace, name: str, output: str) -> str:
        return python(*shlex.split(self.command(given)), "--slurm", given.slurm)

    def _script(self, given: argparse.Namespace, name: str) -> str:
        whole = {} if "cpus-per-task" in self.options else {"exclusive": None, "mem": "0"}
        asked: dict[str, str | int | None] = {
            "job-name": name,
            "chdir": str(self.folder),
            "output": "slurm-%j.out",
            "open-mode": "append",
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            **({} if self.minutes is None else {"time": self.minutes}),
            "requeue": None,
            "signal": f"B:USR1@{END_SECONDS}",
            **({"no-kill": None} if self.nodes > 1 else {}),  # where one is lost, Ray goes on with the others
            **whole,
            **self.options,
        }
        directives = [f"--{key}" if value is None else f"--{key}={value}" for key, value in asked.items()]
        return _SCRIPT.format(
            name=name,
            directives="\n".join(f"#SBATCH {shlex.quote(one)}" for one in directives),
            folder=shlex.quote(str(Path.cwd())),
            project=shlex.quote(str(Path(search.__path__[0]).parent)),
            python=shlex.quote(sys.executable),
            output=shlex.quote(str(self.folder)),
            command=self.command(given),
        )


def _nodes(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise InputError(f"--slurm nodes={value} is no number of machines; give 1 or more")
    return int(value)


def _minutes(value: str) -> int:
    """Of `30m`, `8h`, `1.5d`, or [DAYS-]HOURS:MINUTES:SECONDS, as Slurm writes it."""
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value):
        minutes = float(match[1]) * _UNITS[match[2]]
    elif match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", value):
        days, hours, whole, seconds = (int(part or 0) for part in match.groups())
        minutes = (days * 24 + hours) * 60 + whole + seconds / 60
    else:
        raise InputError(f"--slurm time={value} is not a time; write 30m, 8h, 2d, or 1-12:00:00")
    if minutes < LEAST_MINUTES:
        raise InputError(
            f"--slurm time={value} is too short, for trials end their epochs in its last minutes; give at least "
            f"{LEAST_MINUTES}m"
        )
    return math.ceil(minutes)


def _shared(given: argparse.Namespace) -> Path:
    if given.output.url is not None:
        raise InputError(
            f"output = {str(given.output)!r} is a URL, and a job of Slurm's is followed by a file; give --output as a "
            "folder that all nodes share"
        )
    folder = given.output.path.expanduser().absolute()
    alone = {Path(place).resolve() for place in (*ONE_MACHINE, tempfile.gettempdir())}
    if any(folder.resolve().is_relative_to(place) for place in alone):
        raise InputError(
            f"output = {str(given.output)!r} is on this machine alone; give --output as a folder that all nodes share, "
            "such as one in your home"
        )
    return folder


def _asked(*command: str) -> str:
    """What a command of Slurm's prints; RuntimeError where it fails."""
    ended = _called(*command)
    if ended.returncode and "Invalid job id" not in ended.stderr:
        raise RuntimeError(" ".join(ended.stderr.split()) or f"{command[0]} has failed")
    return ended.stdout


def _called(*command: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)
