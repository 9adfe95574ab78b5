"""Which search finds good configurations soonest: `python -m benchmarks.search.quality --out`.

Searches play against each other on learning curves of LCBench (lcbench/README.md) and of our networks (curves/), with
asynchronous workers in simulated time: the product's Searcher and Scheduler, and Ray's. Nothing is trained, no time is
measured: the machine may be busy. A budget is counted in epochs, as whole trainings (such as in arXiv:2202.09774). The
regret is the lowest error of any model trained so far above the lowest error known. What a search begins with is chosen
from the other tasks of LCBench alone, and in our table from the tasks made of other data sets alone. The tasks of
LCBench are every fifth of the 34, by their OpenML numbers; constants of our searches were compared on others. It takes
a quarter of an hour on two cores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import optuna
from ray.tune.schedulers import AsyncHyperBandScheduler

from benchmarks.search.cqr import Conformal
from benchmarks.search.many import parser, played
from benchmarks.search.problems import Problem, problem
from benchmarks.search.quality_page import Compared, write
from benchmarks.search.simulation import Ours, Player, Rays, simulate
from search.optimize.gaussian import Floats
from search.spec import Sampler, Scheduler, SearchSpec

ENDLESS = 10**6  # trials: the budget ends the search
LONGEST = {"LCBench": 50.0, "residual networks": 20.0}  # whole trainings; our table has 160 configurations
BASELINE = "random + Ray's ASHA"
CQR = "CQR + ASHA"

Make = Callable[[Problem, int, int], Player]  # of a problem, a seed, and a number of workers


def _ours(sampler: Sampler, scheduler: Scheduler = Scheduler.ASHA, starts: bool = False) -> Make:
    def make(problem: Problem, seed: int, workers: int) -> Player:
        asked = SearchSpec(trials=ENDLESS, sampler=sampler, scheduler=scheduler, seed=seed)
        return Ours(asked, problem, workers, starts)

    return make


def _conformal(problem: Problem, seed: int, workers: int) -> Player:
    player = Ours(SearchSpec(trials=ENDLESS, sampler=Sampler.FREEZE_THAW, seed=seed), problem, workers, False)
    player.strategy._model = Conformal(problem.space, problem.axes(), seed)  # pyright: ignore[reportAttributeAccessIssue]
    return player


def _rays(sampler: type[optuna.samplers.BaseSampler]) -> Make:
    def make(problem: Problem, seed: int, workers: int) -> Player:
        del workers  # Ray's searcher is asked for as many as there are
        asha = AsyncHyperBandScheduler(
            time_attr="training_iteration", max_t=problem.epochs, grace_period=3, reduction_factor=3
        )
        return Rays(problem, sampler(seed=seed), asha)  # pyright: ignore[reportCallIssue]

    return make


SEARCHES: dict[str, Make] = {
    "random": _ours(Sampler.RANDOM, Scheduler.NONE),
    BASELINE: _rays(optuna.samplers.RandomSampler),
    "Ray's OptunaSearch + ASHA": _rays(optuna.samplers.TPESampler),
    CQR: _conformal,
    "ours, random": _ours(Sampler.RANDOM),
    "ours, freeze-thaw": _ours(Sampler.FREEZE_THAW),
    "ours, starts + random": _ours(Sampler.RANDOM, starts=True),
    "ours, starts + freeze-thaw": _ours(Sampler.FREEZE_THAW, starts=True),
}


@dataclass(frozen=True)
class Run:
    """One search on one problem."""

    problem: str
    search: str
    seed: int
    trace: list[tuple[float, float]]  # (budget spent, lowest error so far)


def run(job: tuple[str, str, int, int]) -> Run:
    """Plays one search to the end of its budget."""
    name, search, seed, workers = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    of = problem(name)
    trace = simulate(SEARCHES[search](of, seed, workers), of, LONGEST[of.kind] * of.epochs / workers, workers)
    return Run(name, search, seed, [(at * workers / of.epochs, error) for at, error in trace])


def regrets(runs: Sequence[Run], known: float, budgets: Floats) -> Floats:
    """Regret of each run (rows) after each budget, percent points; 100 - known before the first epoch ends."""
    rows = []
    for one in runs:
        at, error = np.array([0.0, *(a for a, _ in one.trace)]), np.array([100.0, *(e for _, e in one.trace)])
        rows.append(error[np.searchsorted(at, budgets, side="right") - 1] - known)
    return np.array(rows)


def main() -> None:
    line = parser(__doc__, "search-quality")
    quick = [search for search in SEARCHES if search != CQR]  # a minute a run, against seconds
    line.add_argument("--searches", nargs="+", choices=list(SEARCHES), default=quick, help=f"all but {CQR!r}")
    line.add_argument("--workers", type=int, default=8, help="simulated (8)")
    args = line.parse_args()
    searches = list(dict.fromkeys([BASELINE, *args.searches]))
    jobs = [(*one, args.workers) for one in product(args.tasks, searches, range(args.seeds))]
    runs = played(run, jobs, args.jobs)
    kinds: list[Compared] = []
    for kind, longest in LONGEST.items():
        budgets, found = np.geomspace(0.2, longest, 500), dict[tuple[str, str], Floats]()
        for task in (name for name in args.tasks if problem(name).kind == kind):
            own = [one for one in runs if one.problem == task]
            known = min(problem(task).lowest(), *(one.trace[-1][1] for one in own))
            of = {search: [one for one in own if one.search == search] for search in searches}
            found |= {(task, search): regrets(of[search], known, budgets) for search in searches}
        kinds += [Compared(kind, budgets, found, BASELINE)] if found else []
    write(kinds, args.seeds, args.workers, args.out)


if __name__ == "__main__":
    main()
