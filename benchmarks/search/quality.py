"""Which search finds good configurations soonest: `python -m benchmarks.search.quality --out`.

Searches play against each other on learning curves of LCBench (lcbench/README.md), with asynchronous workers in
simulated time: the product's Searcher and Scheduler, Ray's, and baselines. Nothing is trained, no time is measured: the
machine may be busy. A budget is counted in epochs, 52 of them a whole training, as is usual on these curves (such as in
arXiv:2202.09774); with `--timed` in seconds of LCBench's machine, in mean whole trainings of the task. The regret is
the lowest error of any model trained so far above the lowest error known. The tasks are every fifth of the 34, by their
OpenML numbers. The constants of our sampler were compared on some of them (3945, 126029, 167161, 167190, 168331) and
chosen among the better ones on others (34539, 167104, 167181, 167201, 168868), with 8 seeds. It takes about a quarter
of an hour on two cores.
"""

import argparse
import datetime
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import optuna
from numpy.typing import NDArray
from ray.tune.schedulers import AsyncHyperBandScheduler

from benchmarks.search.learning_curves import EPOCHS, TASKS, final, random_configurations, seconds
from benchmarks.search.quality_page import write
from benchmarks.search.simulation import OneEpochTopK, Ours, Player, Rays, simulate
from search.spec import Sampler, Scheduler, SearchSpec

ENDLESS = 10**6  # trials: the budget ends the search
RANDOM, LONG, SHORT = "random", 100.0, 25.0  # budget of random search, and of the others
KNOWN = 20_000  # random configurations among which the lowest error known is sought, beside all searches


def _ours(sampler: Sampler, scheduler: Scheduler) -> Callable[[int, int], Player]:
    def make(seed: int, workers: int) -> Player:
        spec = {"trials": ENDLESS, "sampler": sampler, "scheduler": scheduler, "seed": seed}
        return Ours(SearchSpec.model_validate(spec), workers)

    return make


def _one_epoch(trials: int, top: int) -> Callable[[int, int], Player]:
    def make(seed: int, workers: int) -> Player:
        spec = SearchSpec(trials=trials, sampler=Sampler.RANDOM, seed=seed)
        return Ours(spec, workers, OneEpochTopK(1, 2, EPOCHS, trials, top))

    return make


def _rays(sampler: type[optuna.samplers.BaseSampler], first_rung: int, reduction: int) -> Callable[[int, int], Player]:
    def make(seed: int, workers: int) -> Player:
        del workers  # Ray's searcher is asked for as many as there are
        asha = AsyncHyperBandScheduler(
            time_attr="training_iteration", max_t=EPOCHS, grace_period=first_rung, reduction_factor=reduction
        )
        return Rays(sampler(seed=seed), asha)  # pyright: ignore[reportCallIssue]

    return make


SEARCHES: dict[str, Callable[[int, int], Player]] = {
    RANDOM: _ours(Sampler.RANDOM, Scheduler.NONE),
    "random + Ray's ASHA, first rung 3": _rays(optuna.samplers.RandomSampler, 3, 3),
    "Ray's OptunaSearch + ASHA, defaults": _rays(optuna.samplers.TPESampler, 1, 4),
    "Ray's OptunaSearch + ASHA, first rung 3": _rays(optuna.samplers.TPESampler, 3, 3),
    "one epoch of 200, top 20": _one_epoch(200, top=20),
    "ours, random + asha": _ours(Sampler.RANDOM, Scheduler.ASHA),
    "ours, tpe + asha": _ours(Sampler.TPE, Scheduler.ASHA),
    "ours, freeze-thaw": _ours(Sampler.FREEZE_THAW, Scheduler.ASHA),
}


@dataclass(frozen=True)
class Run:
    """One search on one task."""

    task: int
    search: str
    seed: int
    trace: list[tuple[float, float]]  # (budget spent, lowest error so far)


def run(job: tuple[int, str, int, int, bool]) -> Run:
    """Plays one search to the end of its budget."""
    task, name, seed, workers, timed = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    unit = mean_training(task) if timed else EPOCHS
    until = (LONG if name == RANDOM else SHORT) * unit / workers
    trace = simulate(SEARCHES[name](seed, workers), task, until, workers, timed)
    return Run(task, name, seed, [(at * workers / unit, error) for at, error in trace])


def mean_training(task: int) -> float:
    """Seconds of a whole training, mean over 200 random configurations."""
    return EPOCHS * float(seconds(task, random_configurations(200, seed=0)).mean())


def lowest_known(task: int, runs: Sequence[Run]) -> float:
    """The lowest error that any search reached, or one of many random configurations."""
    return min(float(final(task, random_configurations(KNOWN, seed=1))[1].min()), *(r.trace[-1][1] for r in runs))


def regrets(runs: Sequence[Run], known: float, budgets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Regret of each run (rows) after each budget, percent points; 100 - known before the first epoch ends."""
    rows = []
    for one in runs:
        at, error = np.array([0.0, *(a for a, _ in one.trace)]), np.array([100.0, *(e for _, e in one.trace)])
        rows.append(error[np.searchsorted(at, budgets, side="right") - 1] - known)
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="of each search on each task (20)")
    parser.add_argument("--tasks", type=int, nargs="+", choices=TASKS, default=TASKS[::5], help="OpenML numbers")
    parser.add_argument("--searches", nargs="+", choices=list(SEARCHES), default=list(SEARCHES))
    parser.add_argument("--workers", type=int, default=8, help="simulated (8)")
    parser.add_argument("--timed", action="store_true", help="count seconds in place of epochs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes of this machine")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-search-quality.md and .png")
    args = parser.parse_args()
    began = datetime.datetime.now()
    every = product(args.tasks, args.searches, range(args.seeds))
    jobs = [(task, search, seed, args.workers, args.timed) for task, search, seed in every]
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        runs = pool.map(run, jobs, chunksize=1)
    budgets = np.linspace(0.5, LONG, 400)
    curves: dict[tuple[int, str], NDArray[np.float64]] = {}
    for task in args.tasks:
        known = lowest_known(task, [r for r in runs if r.task == task])
        for name in args.searches:
            curves[task, name] = regrets([r for r in runs if (r.task, r.search) == (task, name)], known, budgets)
    took = (datetime.datetime.now() - began).total_seconds()
    write(curves, budgets, SHORT, RANDOM, args.workers, args.timed, took, args.out)


if __name__ == "__main__":
    main()
