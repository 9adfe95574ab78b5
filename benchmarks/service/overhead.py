"""What the service costs around the training: `python -m benchmarks.service.overhead --out`.

Runs a fresh study of equal trials of about ten seconds, through Ray, Optuna and a local MLflow store, as a user runs
it. How large such a trial is, is measured first, with as many trials at once as the study will run. The study's own
record says when each epoch ended and how long it took, and so where the time of the workers went: into training and
validation; the later start of all workers but the first; the gaps between two epochs of a trial (checkpoint, report)
and between two trials; and at the end, where some are done and others are not. The record does not say which worker ran
a trial: each is taken to follow the trial that had ended first. The sum of the gaps is the same whoever followed whom.
The machine must be otherwise idle. It takes about five minutes on two cores.
"""

import argparse
import heapq
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks import report
from benchmarks.report import publish, quartiles, table
from benchmarks.service.cpu_seconds import Usage, processes
from benchmarks.trial.loops import BATCH, Ours, subset, trial
from benchmarks.trial.side_by_side import Place, all_cores, in_turns, team
from search.data import check
from search.spec import DataSpec
from tests.support.journal import Reported, reported

DEPTH, EPOCHS = 8, 5
VALIDATION = 0.005  # fraction of the training images: trials shall train
SURROUNDINGS = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS")  # would send the study elsewhere


@dataclass(frozen=True)
class Trained:
    """One trial, from its first step to the end of its last epoch; Unix seconds."""

    began: float
    ended: float
    training: float  # seconds of it that were training and validation


@dataclass(frozen=True)
class Breakdown:
    """Where the workers' time went between the first step of a study and its last; seconds, of all workers together."""

    workers: int
    span: float  # from the first step to the last, seconds of the clock
    training: float
    late: float  # before the first step of each worker
    within: float  # between epochs of a trial
    between: tuple[float, ...]  # each gap between two trials
    idle_at_end: float  # after the last trial of each worker

    @property
    def beyond(self) -> float:
        """The workers' time beyond training, as a fraction of it."""
        return self.span * self.workers / self.training - 1


def trials(reported: Sequence[Reported]) -> list[Trained]:
    """Each trial that trained, by its first step, from the epochs on record."""
    epochs: dict[int, list[Reported]] = {}
    for one in reported:
        epochs.setdefault(one.number, []).append(one)
    found = [
        Trained(
            began=min(e.time_ms / 1000 - e.metrics["cost/seconds"] for e in own),
            ended=max(e.time_ms / 1000 for e in own),
            training=sum(e.metrics["cost/seconds"] for e in own),
        )
        for own in epochs.values()
    ]
    return sorted(found, key=lambda t: t.began)


def breakdown(trained: Sequence[Trained], workers: int) -> Breakdown:
    """Where the time went.

    Args:
        trained: by their first steps.
        workers: that the study could have had; one that never trained was late for all of the span.
    """
    first, last = trained[0].began, max(t.ended for t in trained)
    free: list[float] = []  # when the last trial of each worker ended, a heap
    late: list[float] = []
    between: list[float] = []
    for t in trained:
        if free and free[0] <= t.began:
            between.append(t.began - heapq.heappop(free))
        else:  # all workers so far were busy
            late.append(t.began - first)
        heapq.heappush(free, t.ended)
    workers = max(workers, len(late))
    return Breakdown(
        workers=workers,
        span=last - first,
        training=sum(t.training for t in trained),
        late=sum(late) + (workers - len(late)) * (last - first),
        within=sum(t.ended - t.began - t.training for t in trained),
        between=tuple(between),
        idle_at_end=sum(last - ended for ended in free),
    )


def size(images_per_s: float, seconds: float, available: int) -> tuple[int, int]:
    """Training images, in full batches, and epochs of a trial that lasts about so many seconds."""
    wanted = images_per_s * seconds
    epochs = max(EPOCHS, math.ceil(wanted / available))
    return max(BATCH, min(available, int(wanted / epochs)) // BATCH * BATCH), epochs


def places() -> list[Place]:
    """Where the product runs trials by default: one on the GPU (more where they fit), else one a core."""
    return [Place(1)] if torch.cuda.is_available() else [Place(1, frozenset({core})) for core in all_cores()]


def calibrated(args: argparse.Namespace) -> tuple[int, int]:
    """`size` for this machine, from trials side by side."""
    prepared = subset(args.data, 8, args.data_dir)
    available = check(DataSpec(name=args.data, dir=args.data_dir, validation=VALIDATION)).n_train
    loop = Ours(trial(prepared.info, DEPTH), prepared)
    with team([(loop, place) for place in places()]) as trials_at_once:
        (turns,) = in_turns([trials_at_once], 2)
    rate = quartiles([turn.images_per_s for turn in turns])[1] / len(places())
    return size(rate, args.seconds, available)


def study(args: argparse.Namespace, images: int, epochs: int) -> dict[str, Any]:
    """The study: trials that differ in what costs no time, none of them stopped early."""
    return {
        "name": "overhead",
        "data": {"name": args.data, "dir": args.data_dir, "limit": images, "validation": VALIDATION},
        "net": {"depth": DEPTH},
        "train": {"epochs": epochs, "batch_size": BATCH},
        "space": {
            "train.lr": {"low": 0.02, "high": 0.2, "log": True},
            "train.weight_decay": {"low": 0.0001, "high": 0.002, "log": True},
        },
        "search": {"trials": args.trials, "scheduler": "none"},
        "finals": {"top": 0},
    }


@dataclass(frozen=True)
class Run:
    """One run of the command; Unix seconds."""

    began: float
    ended: float
    epochs: list[Reported]
    cpu: dict[str, float]  # seconds by role


def run(described: dict[str, Any]) -> Run:
    """Runs a study in a process and a folder of its own; ends this one with what it printed when it fails."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "study.yaml").write_text(yaml.safe_dump(described))
        environment = {k: v for k, v in os.environ.items() if k not in SURROUNDINGS}
        command = [sys.executable, "-m", "search.run", str(folder / "study.yaml"), "--output", str(folder / "results")]
        began = time.time()
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            usage = Usage(process.pid)
            while process.poll() is None:
                usage.see(processes())
                try:
                    process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    continue
        ended = time.time()
        if process.returncode:
            sys.exit(f"error: {' '.join(command)} ended with {process.returncode}:\n{(folder / 'log').read_text()}")
        return Run(began, ended, reported(folder / "results" / described["name"]), usage.by_role())


def rows(done: Run, trained: Sequence[Trained], found: Breakdown) -> list[list[str]]:
    """Every figure for the table."""
    gaps = sorted(found.between)
    cores = len(all_cores()) * (done.ended - done.began)
    parts = {
        "training and validation": found.training,
        "before a worker's first step": found.late,
        "between epochs of a trial": found.within,
        "between trials": sum(gaps),
        "at the end, waiting for the last": found.idle_at_end,
    }
    return [
        ["command to first step", f"{trained[0].began - done.began:.1f} s"],
        ["last step to the command's end", f"{done.ended - max(t.ended for t in trained):.1f} s"],
        ["first step to last, times workers", f"{found.span * found.workers:.1f} s, {found.workers} workers"],
        *([f"of it {name}", f"{seconds:.2f} s ({seconds / found.training:.2%})"] for name, seconds in parts.items()),
        ["beyond training", f"{found.beyond:.2%}"],
        ["a trial, median", f"{quartiles([t.training for t in trained])[1]:.2f} s"],
        *(
            [f"idle between two trials, {name}", f"{1000 * gaps[math.ceil(part * len(gaps)) - 1]:.0f} ms"]
            for name, part in (("median", 0.5), ("95 %", 0.95), ("most", 1.0))
            if gaps
        ),
        *([f"CPU time of {role}", f"{s:.1f} s ({s / cores:.1%} of the cores)"] for role, s in done.cpu.items()),
    ]


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, "service-overhead", "name of the data set")
    parser.add_argument("--trials", type=int, default=48, help="of the study (48)")
    parser.add_argument("--seconds", type=float, default=10, help="of a trial, about (10)")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    images, epochs = calibrated(args)
    done = run(study(args, images, epochs))
    trained = trials(done.epochs)
    found = breakdown(trained, len(places()))
    note = (
        f"{args.trials} trials of ResNet-{DEPTH}, {epochs} epochs of {images:,} images of {args.data}; n = "
        f"{len(trained)} trials with {len(found.between)} gaps between two, one run. Times are "
        "of all workers together, in parentheses as a share of training; CPU time is read once a second."
    )
    publish("service-overhead", "Cost of the service", [note, table(["", ""], rows(done, trained, found))], args.out)


if __name__ == "__main__":
    main()
