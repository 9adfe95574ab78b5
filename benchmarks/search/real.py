"""Real searches side by side: `python -m benchmarks.search.real --out`.

`auto` (what is known, then the model) against random search with ASHA, each with the same time on the same cores, with
several seeds, on 10,000 images of CIFAR-10; then the finals of both. Of what is known, tasks made of CIFAR-10 are left
out. The networks are those of our learning curves. Searches take turns, the first of a seed one way round, of the next
the other; who stops the command and calls it again goes on where it was. With an hour each it takes six hours and more
on two cores, which must be otherwise idle.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import report
from benchmarks.report import publish, table, there_and_back
from benchmarks.search.curves.tasks import SPACE
from search import Study
from search.optimize.portfolio import Known, nearest, portfolio
from search.optimize.starts import MOST, RECIPE
from search.records import TrialState
from search.spec import StudySpec

PARTS = (1 / 6, 1 / 3, 2 / 3, 1)  # of the time: the table has the lowest error after each
AUTO, RANDOM = "auto", "random + ASHA"


def starts(spec: StudySpec) -> list[dict[str, Any]]:
    """What `start: auto` would be if nothing were known of CIFAR-10."""
    space = spec.make_space((32, 32, 3), 10)
    known = Known.shipped()
    other = replace(known, errors={name: e for name, e in known.errors.items() if not name.startswith("cifar")})
    found = [nearest(space, RECIPE), *portfolio(other, space, MOST, lambda chosen: True)]
    different = {space.key(one): {path: one[path] for path in space.searched if path in one} for one in found}
    return list(different.values())[:MOST]


def study(name: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """One search: `AUTO`, or `RANDOM`."""
    spec = {
        "name": f"{name.split()[0]}-{seed}",
        "data": {"name": asked.data, "dir": asked.data_dir, "limit": asked.images},
        "net": {"width": 0.5},
        "train": {"epochs": asked.epochs, "batch_size": 32},
        "space": dict(SPACE),
        "search": {"seed": seed, "trials": 10_000, "time_budget": 60 * asked.minutes},
        "finals": {"top": 1, "seeds": 3, "max_seeds": 3},
    }
    if name == RANDOM:
        return {**spec, "start": [], "search": {**spec["search"], "sampler": "random"}}
    return {**spec, "start": starts(StudySpec(**spec))}


def errors(found: Study, seconds: float) -> list[float]:
    """Lowest validation error of a complete trial after each of `PARTS` of the time; 100 before the first one."""
    trials = found.trials
    first = min(trial.began for trial in trials)
    done = [(t.ended - first, t.val_error) for t in trials if t.state is TrialState.COMPLETE and t.ended]
    return [
        min((error for ms, error in done if error is not None and ms <= 1000 * part * seconds), default=100.0)
        for part in PARTS
    ]


def row(name: str, seed: int, found: Study, asked: argparse.Namespace) -> tuple[str, ...]:
    finals = found.finals
    tested = finals.finalists[0].tested if finals else ()
    counts: Mapping[str, int] = found.trials.started.counts()
    return (
        name,
        str(seed),
        *(f"{error:.1f}" for error in errors(found, 60 * asked.minutes)),
        f"{fmean(tested):.2f}" if tested else "",
        f"{sum(counts.values())}, {counts['complete']} complete",
    )


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, "search-real", "the data set")
    parser.add_argument("--minutes", type=float, default=60, help="of each search (60)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the searches (0 1 2)")
    parser.add_argument("--images", type=int, default=10_000, help="to train on (10,000)")
    parser.add_argument("--epochs", type=int, default=18, help="of a complete trial (18)")
    parser.add_argument("--output", type=Path, default=Path("results-real"), help="where the studies are kept")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    rows: list[tuple[str, ...]] = []
    for turn, seed in enumerate(asked.seeds):
        for name in there_and_back((AUTO, RANDOM), turn):
            made = Study.create(study(name, seed, asked), output=asked.output)
            made.run()
            rows.append(row(name, seed, made, asked))
    head = ("search", "seed", *(f"after {part * asked.minutes:.2g} min" for part in PARTS), "test error", "trials")
    caption = (
        f"{asked.data}, {asked.images:,} images, complete after {asked.epochs} epochs, {asked.minutes:g} minutes for "
        "each search. Lowest validation error of a complete trial, in percent; then the mean test error of the best, "
        "trained three times on training and validation images."
    )
    publish("search-real", "Real searches", [caption, table(head, sorted(rows))], asked.out)


if __name__ == "__main__":
    main()
