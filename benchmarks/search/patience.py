"""What ends a search early saves, and what it costs: `python -m benchmarks.search.patience --out`.

Searches are simulated as in `quality`, on the same tasks, each to the end of its budget. `search.patience` and
`search.target` are then asked, by the product's own rule, after each complete training: at the first one that would
have ended the search, what is left of the budget is saved, and what the best validation error still falls is paid.
Nothing is trained, no time is measured: the machine may be busy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import optuna

from benchmarks.report import publish, table
from benchmarks.search.many import parser, played
from benchmarks.search.problems import problem
from benchmarks.search.simulation import Ours, simulate
from search.records import End, TrialRecord
from search.spec import Objective, SearchSpec

WORKERS = 8
BUDGET = 50  # whole trainings
ENDLESS = 10**6  # trials: the budget ends the search
RULES: Mapping[str, float] = {"patience 5": 5, "patience 10": 10, "patience 20": 20} | {
    "target 1.25": 1.25,
    "target 1.1": 1.1,
    "target 1.05": 1.05,
}


class Watched(Ours):
    """A search whose complete trainings are kept in the order in which they ended."""

    def watch(self) -> list[tuple[int, TrialRecord]]:
        """They come into this list, each with the epochs that all trials had trained by then."""
        self._spent, self._seen = 0, list[tuple[int, TrialRecord]]()
        return self._seen

    def result(self, trial_id: str, epoch: int, error: float) -> bool:
        over = super().result(trial_id, epoch, error)
        self._spent += 1
        for record in self.strategy.ledger.standings.complete[len(self._seen) :]:
            self._seen.append((self._spent, replace(record, ended=len(self._seen))))  # many end in one millisecond
        return over


@dataclass(frozen=True)
class Ended:
    """How one search ended by one rule."""

    kind: str
    task: str
    seed: int
    rule: str
    used: float  # share of the budget; 1 where the rule has not ended it
    error: float  # best validation error then, percent
    last: float  # and at the end of the budget
    best: tuple[tuple[float, float], ...]  # share of the budget, best error from then on


def asked(rule: str, lowest: float) -> SearchSpec:
    """The search of a rule on a task with this lowest error."""
    if rule.startswith("patience"):
        return SearchSpec(trials=ENDLESS, patience=round(RULES[rule]))
    return SearchSpec(trials=ENDLESS, target={Objective.VAL_ERROR: RULES[rule] * lowest})


def run(job: tuple[str, int]) -> list[Ended]:
    """Plays one search to the end of its budget."""
    name, seed = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    of = problem(name)
    player = Watched(SearchSpec(trials=ENDLESS, seed=seed), of, WORKERS, starts=True)
    seen, whole = player.watch(), BUDGET * of.epochs
    simulate(player, of, whole / WORKERS, WORKERS)
    lowest, errors = of.lowest(), [record.val_error or 0.0 for _, record in seen]
    best = tuple((spent / whole, min(errors[: i + 1])) for i, (spent, _) in enumerate(seen))
    found: list[Ended] = []
    for rule in RULES:
        search = asked(rule, lowest)
        ends = (i for i in range(len(seen)) if End.of_found(search, [record for _, record in seen[: i + 1]]))
        i = next(ends, None)
        # Those that train when a search ends come to the end of their epoch.
        used = 1.0 if i is None else min(1.0, (seen[i][0] + WORKERS - 1) / whole)
        found.append(Ended(of.kind, name, seed, rule, used, best[-1 if i is None else i][1], best[-1][1], best))
    return found


def at(best: Sequence[tuple[float, float]], share: float) -> float:
    """The best error after this share of the budget, or the first that there is."""
    return min([error for used, error in best if used <= share], default=best[0][1])


def row(of: Sequence[Ended]) -> list[str]:
    """Figures of searches by one rule."""
    used = np.array([one.used for one in of])
    paid = np.array([one.error - one.last for one in of])
    fixed = np.mean([at(one.best, used.mean()) - one.last for one in of])
    ended = np.mean(used < 1)
    return [
        str(len(of)),
        f"{100 * ended:.0f} %",
        f"{100 * (1 - used.mean()):.0f} %",
        f"{paid.mean():.2f}",
        f"{np.quantile(paid, 0.9):.2f}",
        f"{100 * np.mean(paid <= 1e-9):.0f} %",
        f"{fixed:.2f}",
    ]


def write(found: Sequence[Ended], seeds: int, out: bool) -> None:
    """Prints the page; with `out` writes it to results/."""
    head = ["rule", "n", "ended", "budget saved", "paid", "paid by 1 in 10", "paid nothing", "fixed budget pays"]
    parts = [
        f"`python -m benchmarks.search.patience`, sampler `auto`, {seeds} seeds a task, {WORKERS} workers in simulated "
        f"time, a budget of {BUDGET} whole trainings each. Patience: so many complete trainings in a row without a "
        "better one; target: so many times the lowest error known of the task. n: searches; ended: those that the rule "
        "has ended before the budget did; budget saved: mean over all of them. Paid: points by which the best "
        "validation error would still have fallen with the rest of the budget, mean, and what one search in ten pays "
        "at least. Fixed budget pays: the mean where every search gets the same budget, as large as the rule's mean."
    ]
    for kind in dict.fromkeys(one.kind for one in found):
        own = [one for one in found if one.kind == kind]
        rows = [[rule, *row([one for one in own if one.rule == rule])] for rule in RULES]
        complete = np.median([len(one.best) for one in own])
        tasks = len({one.task for one in own})
        parts += [f"## {kind}: {tasks} tasks, {complete:.0f} complete trainings in a budget", table(head, rows)]
    publish("search-patience", "What it saves to end a search early, and what it costs", parts, out)


def main() -> None:
    args = parser(__doc__, "search-patience").parse_args()
    jobs = list(product(args.tasks, range(args.seeds)))
    found = [one for several in played(run, jobs, args.jobs) for one in several]
    write(found, args.seeds, args.out)


if __name__ == "__main__":
    main()
