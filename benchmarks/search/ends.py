"""Whether the gain that is expected of more search comes: `python -m benchmarks.search.ends --out`.

Searches are simulated as in `quality`, on the same tasks. After 10, 15 and 20 whole trainings the gain that is expected
of a tenth, a quarter, half and all of that budget again is set beside the fall of the best validation error that comes.
The form of the estimate was chosen on seven other tasks of LCBench and other seeds, and on the first five seeds of
these. Nothing is trained, no time is measured: the machine may be busy. It takes half an hour on two cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import optuna
from scipy import stats

from benchmarks.report import publish, table
from benchmarks.search.many import parser, played
from benchmarks.search.problems import problem
from benchmarks.search.simulation import Ours, simulate
from search.records import Trials
from search.records.gain import FEWEST
from search.spec import Sampler, SearchSpec

WORKERS = 8
ROUNDING = 1e-9  # points
ENDLESS = 10**6  # trials: the budget ends the search
MOMENTS = (10, 15, 20)  # whole trainings
AHEAD = (0.1, 0.25, 0.5, 1.0)  # of what is spent
SEARCHES = {"auto": Sampler.AUTO, "random with ASHA": Sampler.RANDOM}  # the first begins with starts


class Watched(Ours):
    """A search whose records are kept as they are after each of so many whole trainings."""

    def watch(self, moments: Sequence[float]) -> dict[float, Trials]:
        self._left = {round(moment * self._epochs): moment for moment in moments}
        self._spent, self._seen = 0, dict[float, Trials]()
        return self._seen

    def result(self, trial_id: str, epoch: int, error: float) -> bool:
        over = super().result(trial_id, epoch, error)
        self._spent += 1
        if self._spent in self._left:
            self._seen[self._left[self._spent]] = self.strategy.records
        return over


@dataclass(frozen=True)
class Forecast:
    """What was expected of one search at one moment, and what came; points."""

    kind: str
    task: str
    search: str
    moment: int
    ahead: float
    points: float
    tenth: float
    came: float


def run(job: tuple[str, str, int]) -> list[Forecast]:
    """Plays one search to the end of its budget."""
    name, search, seed = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    of = problem(name)
    asked = SearchSpec(trials=ENDLESS, sampler=SEARCHES[search], seed=seed)
    player = Watched(asked, of, WORKERS, starts=search == "auto")
    seen = player.watch([m * (1 + more) for m in MOMENTS for more in (0.0, *AHEAD)])
    simulate(player, of, (2 * MOMENTS[-1] + 1) * of.epochs / WORKERS, WORKERS)
    found: list[Forecast] = []
    for moment, more in product(MOMENTS, AHEAD):
        gain = seen[moment].expected_gain(moment, ahead=more * moment)
        if gain is not None:
            before, after = (seen[at].best for at in (moment, moment * (1 + more)))
            came = (before.measured or 0.0) - (after.measured or 0.0)
            found.append(Forecast(of.kind, name, search, moment, more, gain.points, gain.tenth, came))
    return found


def row(of: Sequence[Forecast]) -> list[str]:
    """Figures of forecasts at one moment."""
    points, came = np.array([one.points for one in of]), np.array([one.came for one in of])
    tasks = [np.array([one.task == task for one in of]) for task in {one.task for one in of}]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, *ratios = [np.divide(points[own].mean(), came[own].mean()) for own in (slice(None), *tasks)]
    low, middle, high = np.nanquantile(ratios, [0.25, 0.5, 0.75], method="inverted_cdf")
    beyond = np.mean([one.came > one.tenth + ROUNDING for one in of])
    rank = stats.spearmanr(points, came).statistic if np.ptp(came) else np.nan
    spread = f"{middle:.1f} ({low:.1f} to {high:.1f})"
    means = f"{points.mean():.2f}", f"{came.mean():.2f}", f"{ratio:.2f}"
    return [str(len(of)), *means, spread, f"{100 * beyond:.0f} %", f"{rank:.2f}"]


def write(found: Sequence[Forecast], seeds: int, out: bool) -> None:
    """Prints the page; with `out` writes it to results/."""
    head = ["search", "after", "ahead", "n", "expected", "came", "ratio", "by task", "beyond", "rank"]
    parts = [
        f"`python -m benchmarks.search.ends`, {seeds} seeds a task, {WORKERS} workers in simulated time; n: searches "
        f"with {FEWEST} complete trials or more by then. After: whole trainings spent; ahead: as much of that again. "
        "Expected, came: points, means over the searches; ratio: of these means; by task: this ratio of each task, "
        "median and quartiles (inf: nothing came). Beyond: searches that gained more than one in ten should. Rank: "
        "Spearman's correlation of what was expected with what came, over searches of all tasks."
    ]
    for kind in dict.fromkeys(one.kind for one in found):
        own, rows = [one for one in found if one.kind == kind], list[list[str]]()
        for search, moment, more in product(["both", *SEARCHES], MOMENTS, AHEAD):
            of = [f for f in own if (f.moment, f.ahead) == (moment, more) and search in ("both", f.search)]
            if of and (search == "both" or more == 1):
                rows.append([search, str(moment), f"{100 * more:.0f} %", *row(of)])
        parts += [f"## {kind}: {len({one.task for one in own})} tasks", table(head, rows)]
    publish("search-ends", "Whether the gain that is expected of more search comes", parts, out)


def main() -> None:
    args = parser(__doc__, "search-ends").parse_args()
    jobs = list(product(args.tasks, SEARCHES, range(args.seeds)))
    found = [one for several in played(run, jobs, args.jobs) for one in several]
    write(found, args.seeds, args.out)


if __name__ == "__main__":
    main()
