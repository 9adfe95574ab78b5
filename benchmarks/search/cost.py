"""What it costs to say which trial is next: `python -m benchmarks.search.cost --out`.

Trials cost nothing here: their errors are made up, as many workers as are named train them in turns, and all of the
time is the search's.
The records of so many trials are kept as in a study, in a journal in a temporary folder. The machine must be otherwise
idle. It takes about two minutes.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import publish, spread, table
from search.optimize import Proposer, Strategy, make_scheduler
from search.records import Asked, Ledger, TrialState, open_storage
from search.spec import Appraisal, Sampler, Scheduler, SearchSpec, Value
from search.spec.space import make
from tests.support.epochs import epoch_of

EPOCHS, FIRST_RUNG, WORKERS = 9, 1, 32
FIXED: Mapping[str, Value] = {"net.in_channels": 3, "net.num_classes": 10, "train.epochs": EPOCHS}
SPACE: Mapping[str, Any] = {
    "net.depth": [8, 14, 20, 26, 32],
    "net.version": ["v1", "v2"],
    "net.shortcut": ["identity", "dropout", "conv1x1"],
    "net.dropout": {"low": 0.1, "high": 0.5},
    "train.lr": {"low": 0.01, "high": 1.0, "log": True},
    "train.weight_decay": {"low": 0.00001, "high": 0.001, "log": True},
    "train.batch_size": {"low": 32, "high": 256, "step": 32},
}
GRID: Mapping[str, Any] = {  # 5 * 2 * 10 * 30 = 3,000 configurations
    "net.depth": [8, 14, 20, 26, 32],
    "net.version": ["v1", "v2"],
    "train.lr": [k / 10 for k in range(1, 11)],
    "train.weight_decay": [k / 100_000 for k in range(1, 31)],
}
FREE = Appraisal(1, 1, 1, {}, None)  # what networks cost is measured elsewhere (`step_time`)


def error(flat: Mapping[str, Value], epoch: int) -> float:
    """Validation error in percent after an epoch."""
    return 5 + 10 * abs(math.log10(float(flat["train.lr"]) / 0.1)) + 60 * 0.6**epoch


def strategy(folder: Path, sampler: Sampler, trials: int) -> Strategy:
    """An empty study in this folder."""
    search = SearchSpec(sampler=sampler, scheduler=Scheduler.ASHA, trials=trials, first_rung=FIRST_RUNG, reduction=3)
    space = make(GRID if sampler is Sampler.GRID else SPACE, FIXED)
    ledger = Ledger(open_storage(folder / "optuna.journal"), "cost", space, lambda spec: FREE)
    return Strategy(ledger, Proposer(space, sampler, 0), make_scheduler(search, EPOCHS), search, EPOCHS)


def run(strategy: Strategy) -> tuple[list[tuple[int, float]], list[float]]:
    """(Trials begun so far, milliseconds) of each decision, and seconds of the whole study when each trial began.

    A decision is what follows when a trial comes to a rung or to its end: whether it goes on, and if not, what its
    worker does next.
    """
    ledger, decisions, begun = strategy.ledger, list[tuple[int, float]](), list[float]()
    at_work = deque[Asked]()
    start = time.perf_counter()

    def ask() -> None:
        if (asked := strategy.next()) is not None:
            at_work.append(asked)
            if not ledger.record(asked.number).epochs:
                begun.append(time.perf_counter() - start)

    for _ in range(WORKERS):
        ask()
    while at_work:
        asked = at_work.popleft()
        flat, epoch, held = asked.spec.flat(), ledger.record(asked.number).epochs, False
        while not held:
            epoch += 1
            ledger.report(asked.number, epoch, error(flat, epoch), epoch_of(1.0, 100.0))
            before = time.perf_counter()
            held = epoch == EPOCHS or strategy.hold(asked.number)
            if epoch == EPOCHS:
                ledger.finish(asked.number, TrialState.COMPLETE)
            if epoch in (*strategy.scheduler.rungs, EPOCHS):
                if held:
                    ask()
                decisions.append((len(begun), 1000 * (time.perf_counter() - before)))
    return decisions, begun


def rows(sampler: Sampler, sizes: Sequence[int], around: int) -> list[str]:
    """The table's row of a sampler, of one study as long as the largest of `sizes` trials."""
    with tempfile.TemporaryDirectory() as folder:
        decisions, begun = run(strategy(Path(folder), sampler, sizes[-1]))
    windows = [[ms for trials, ms in decisions if size - around < trials <= size] for size in sizes]
    rates = [(around - 1) / (begun[size - 1] - begun[size - around]) for size in sizes]
    return [
        sampler.value,
        *(f"{spread(window, 1)}, n = {len(window)}" for window in windows),
        f"{statistics.median(windows[-1]) / statistics.median(windows[0]):.1f}",
        *(f"{rate:,.1f}" for rate in rates),
    ]


def main() -> None:
    """Prints the page, and writes it with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 2000], help="trials (100 1000 2000)")
    parser.add_argument("--around", type=int, default=50, help="trials up to each size that are measured (50)")
    every = [Sampler.FREEZE_THAW, Sampler.RANDOM, Sampler.GRID]  # auto is one of the first two
    parser.add_argument("--samplers", nargs="+", type=Sampler, default=every, help="all by default")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-search-cost.md")
    args = parser.parse_args()
    sizes = sorted(args.sizes)
    if sizes[0] < args.around:
        parser.error(f"--around {args.around} is more than the least of --sizes, {sizes[0]}")
    head = [
        "sampler",
        *(f"ms at {size:,}" for size in sizes),
        "last / first",
        *(f"trials/s at {size:,}" for size in sizes),
    ]
    parts = [
        f"Scheduler asha, {EPOCHS} epochs, first rung {FIRST_RUNG}, {WORKERS} workers, a journal in a temporary "
        "folder. Milliseconds of a decision (whether a trial goes on from its rung, and if not, what is next) while "
        f"the last {args.around} trials before so many begin: median (lower to upper quartile). Trials/s is the search "
        f"without training: decisions and every epoch's report, over the same {args.around} trials. Finite space for "
        "grid: 3,000.",
        table(head, [rows(sampler, sizes, args.around) for sampler in args.samplers]),
    ]
    publish("search-cost", "Cost of the search itself", parts, args.out)


if __name__ == "__main__":
    main()
