"""Many simulated searches, each in a process of its own, and what their command lines have in common."""

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks.search import lcbench
from benchmarks.search.problems import names

Job = TypeVar("Job")
Found = TypeVar("Found")


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """With `--seeds`, `--tasks`, `--jobs` and `--out`."""
    every = names()
    usual = [task for task in every if not task.isdigit() or int(task) in lcbench.TASKS[::5]]
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, default=20, help="of each search on each task (20)")
    made.add_argument("--tasks", nargs="+", choices=every, default=usual, help="OpenML numbers, and names of ours")
    made.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes of this machine")
    made.add_argument("--out", action="store_true", help=f"write benchmarks/results/DATE-{name}.md")
    return made


def played(run: Callable[[Job], Found], jobs: Sequence[Job], processes: int) -> list[Found]:
    """What `run` finds for each job, in their order."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # of each process
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.map(run, jobs, chunksize=1)
