"""What it costs to say which trial is next: `python -m benchmarks.search.cost --out`.

Trials cost nothing here: their errors are made up, one worker trains them in turn, and all of the time is the search's.
The records of so many trials are kept as in a study, in a journal in a temporary folder. The machine must be otherwise
idle. It takes about two minutes.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import publish, spread, table
from search.optimize import Proposer, Strategy, make_scheduler
from search.records import Ledger, TrialState, open_storage
from search.spec import Appraisal, Sampler, Scheduler, SearchSpec, Value
from search.spec.space import make
from tests.support.epochs import epoch_of

EPOCHS, FIRST_RUNG = 9, 1
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


def run(strategy: Strategy) -> tuple[list[float], list[float]]:
    """Milliseconds of each `next` that gave a new trial, and seconds of the whole study when that trial was over."""
    ledger = strategy.ledger
    asked_ms: list[float] = []
    over: list[float] = []
    began = time.perf_counter()
    while True:
        before = time.perf_counter()
        asked = strategy.next()
        spent = time.perf_counter() - before
        if asked is None:
            return asked_ms, over
        record = ledger.record(asked.number)
        flat, new = asked.spec.flat(), not record.epochs
        for epoch in range(record.epochs + 1, EPOCHS + 1):
            ledger.report(asked.number, epoch, error(flat, epoch), epoch_of(1.0, 100.0))
            if epoch == EPOCHS:
                ledger.finish(asked.number, TrialState.COMPLETE)
            elif strategy.hold(asked.number):
                break
        if new:
            asked_ms.append(1000 * spent)
            over.append(time.perf_counter() - began)


def rows(sampler: Sampler, sizes: Sequence[int], around: int) -> list[str]:
    """The table's row of a sampler, of one study as long as the largest of `sizes` trials."""
    with tempfile.TemporaryDirectory() as folder:
        asked_ms, over = run(strategy(Path(folder), sampler, sizes[-1]))
    windows = [slice(size - around, size) for size in sizes]
    medians = [sorted(asked_ms[w])[around // 2] for w in windows]
    rates = [(around - 1) / (over[w.stop - 1] - over[w.start]) for w in windows]
    return [
        sampler.value,
        *(spread(asked_ms[w], 1) for w in windows),
        f"{medians[-1] / medians[0]:.1f}",
        *(f"{rate:,.1f}" for rate in rates),
    ]


def main() -> None:
    """Prints the page, and writes it with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 2000], help="trials (100 1000 2000)")
    parser.add_argument("--around", type=int, default=50, help="trials up to each size that are measured (50)")
    parser.add_argument("--samplers", nargs="+", type=Sampler, default=list(Sampler), help="all by default")
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
        f"Scheduler asha, {EPOCHS} epochs, first rung {FIRST_RUNG}, a journal in a temporary folder. Milliseconds of "
        f"`Strategy.next` for a new trial, among the last {args.around} trials before so many (n = {args.around}): "
        "median (lower to upper quartile). Trials/s is the whole search without training: proposals, every epoch's "
        f"report, rungs and promotions, over the same {args.around} trials. Finite space for grid: 3,000.",
        table(head, [rows(sampler, sizes, args.around) for sampler in args.samplers]),
    ]
    publish("search-cost", "Cost of the search itself", parts, args.out)


if __name__ == "__main__":
    main()
