"""How well early errors tell late ones: `python -m benchmarks.search.curves.page --out`."""

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from benchmarks.report import publish, table
from benchmarks.search.curves import Curves, Table

EARLY = (3, 6, 9)  # epochs
BEST = 0.25  # of the configurations, by their last error
SCHEDULES = ("constant", "steps", "cosine", "one_cycle")


def agreement(task: Curves, rows: Sequence[int], epoch: int) -> float:
    """Rank correlation of the errors after `epoch` with the last, within the best quarter of these configurations."""
    whole = [task.errors[row] for row in rows if len(task.errors[row]) == task.epochs]
    best = sorted(whole, key=lambda curve: curve[-1])[: max(3, round(BEST * len(rows)))]
    early, last = (rankdata([curve[at] for curve in best]) for at in (epoch - 1, -1))
    return float(np.corrcoef(early, last)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-learning-curves.md")
    known = Table.read()
    facts: list[list[str]] = []
    for name, task in known.tasks.items():
        last = [error for error in task.finals if error is not None]
        low, middle = min(last), float(np.median(last))
        numbers = f"{task.train:,}", f"{task.validation:,}", str(task.epochs), f"{low:.1f}", f"{middle:.1f}"
        facts.append([name, *numbers, f"{task.guess:.1f}", str(len(task.errors) - len(last))])
    ranks: list[list[str]] = []
    for schedule in SCHEDULES:
        rows = [k for k, one in enumerate(known.configurations) if one["train.schedule"] == schedule]
        cells = [f"{schedule} ({len(rows)})"]
        for epoch in EARLY:
            found = [agreement(task, rows, epoch) for task in known.tasks.values() if task.epochs > epoch]
            cells.append(f"{np.mean(found):.2f} ({min(found):.2f} to {max(found):.2f}, {len(found)} tasks)")
        ranks.append(cells)
    parts = [
        f"{len(known.configurations)} random configurations (depth 8, 14 or 20, half width, version, shortcut, rate, "
        "weight decay, schedule), each trained to the end once on each task, in batches of 32.",
        table(
            ["task", "train", "validation", "epochs", "lowest error", "median", "guessing", "diverged"],
            facts,
        ),
        "Spearman's rank correlation of errors after so many epochs with the last, within the quarter that is best at "
        "the end: mean over tasks, and their range. An image of the validation split is 0.1 points or more, so that "
        "ranks of near equal configurations are partly chance.",
        table(["schedule (configurations)", *(f"{epoch} epochs" for epoch in EARLY)], ranks),
    ]
    publish("learning-curves", "Learning curves of small residual networks", parts, parser.parse_args().out)


if __name__ == "__main__":
    main()
