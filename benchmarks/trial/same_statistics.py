"""Do both loops train equally well? `python -m benchmarks.trial.same_statistics --out`.

ResNet-8 on 10,000 images of CIFAR-10, a few epochs, several seeds with each loop; one training a core, on one thread.
Welch's t-test and the Mann-Whitney test look for a difference of the final figures, two one-sided t-tests (TOST) for
equality within a margin. A test that finds nothing says little unless it could have found something: so the smallest
difference that it would find in 80 of 100 such experiments is given too. Nothing is timed: the machine may be busy. It
takes about a quarter of an hour on two cores.
"""

import argparse
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import Queue, get_context
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, stats

from benchmarks import report
from benchmarks.report import publish, table
from benchmarks.trial.loops import BATCH, Ours, Reference
from benchmarks.trial.side_by_side import all_cores, pin
from resnet import NetSpec
from search.data import Prepared, prepare
from search.spec import DataSpec, TrainSpec, TrialSpec

FIGURES = {"train/loss": "nats", "val/loss": "nats", "val/error": "points"}
Sample = NDArray[np.float64]
LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True)
class Comparison:
    """Two independent samples of one figure."""

    difference: float  # of the means, ours less the reference's
    deviation: float  # standard deviation of a single training, pooled
    welch: float  # p of equal means
    mann_whitney: float  # p of equal distributions
    margin: float  # of the equivalence test
    equivalence: float  # p of a difference of `margin` or more
    detectable: float  # difference of means found with probability POWER at LEVEL, in standard deviations


def compare(ours: Sequence[float], theirs: Sequence[float], margin: float) -> Comparison:
    """The tests of two samples; `margin` as a fraction of the reference's mean."""
    a, b = np.asarray(ours), np.asarray(theirs)
    width = margin * abs(float(b.mean()))
    squares = (len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)
    return Comparison(
        difference=float(a.mean() - b.mean()),
        deviation=float(np.sqrt(squares / (len(a) + len(b) - 2))),
        welch=welch(a, b),
        mann_whitney=float(stats.mannwhitneyu(a, b).pvalue),
        margin=width,
        equivalence=max(welch(a + width, b, "greater"), welch(a - width, b, "less")),
        detectable=detectable(len(a), len(b)),
    )


def welch(a: Sample, b: Sample, alternative: str = "two-sided") -> float:
    """p of equal means, or of a mean of `a` that is not greater (or less) than that of `b`."""
    found: Any = stats.ttest_ind(a, b, equal_var=False, alternative=alternative)
    return float(found.pvalue)


def power(effect: float, n: int, m: int, level: float = LEVEL) -> float:
    """Probability that a two-sided t-test of n against m values finds a difference of `effect` standard deviations."""
    freedom, shift = n + m - 2, effect * (n * m / (n + m)) ** 0.5
    # t squared is F: scipy's noncentral t is not a number at the shifts that few values need
    return float(stats.ncf.sf(stats.f.ppf(1 - level, 1, freedom), 1, freedom, shift**2))


def detectable(n: int, m: int, wanted: float = POWER, level: float = LEVEL) -> float:
    """The difference, in standard deviations, that the t-test of n against m values finds with probability `wanted`."""
    return optimize.root_scalar(lambda effect: power(effect, n, m, level) - wanted, bracket=(1e-3, 20.0)).root


def settle(cores: "Queue[int]") -> None:
    """Gives this process one thread, on the next core."""
    pin([cores.get()])
    torch.set_num_threads(1)


def final(job: tuple[str, int, Prepared, TrainSpec]) -> dict[str, float]:
    """The figures after the last epoch of one training."""
    loop, seed, prepared, recipe = job
    info = prepared.info
    net = NetSpec(depth=8, in_channels=info.channels, num_classes=len(info.classes), image_size=info.height)
    spec = TrialSpec(net=net, train=recipe.model_copy(update={"seed": seed}))
    epochs = Ours(spec, prepared) if loop == "ours" else Reference(spec, prepared, workers=0)
    *_, last = epochs()
    print(f"{loop}, seed {seed}: {', '.join(f'{name} {last.metrics[name]:.4f}' for name in FIGURES)}", flush=True)
    return last.metrics


def trainings(prepared: Prepared, recipe: TrainSpec, seeds: int) -> dict[str, list[dict[str, float]]]:
    """Final figures by loop and seed, the loops in turns."""
    jobs = [(loop, seed, prepared, recipe) for seed in range(seeds) for loop in ("ours", "reference")]
    context = get_context("spawn")
    cores = context.Queue()
    available = all_cores()
    for core in available:
        cores.put(core)
    with ProcessPoolExecutor(len(available), mp_context=context, initializer=settle, initargs=(cores,)) as pool:
        results = list(pool.map(final, jobs))
    return {loop: [r for job, r in zip(jobs, results, strict=True) if job[0] == loop] for loop in ("ours", "reference")}


def row(name: str, ours: Sequence[float], theirs: Sequence[float], margin: float) -> list[str]:
    """One figure's tests for the table."""
    found = compare(ours, theirs, margin)
    means = [f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in (ours, theirs)]
    smallest = f"{found.detectable * found.deviation:.4f} ({found.detectable:.2f} sd)"
    tests = [f"{p:.3f}" for p in (found.welch, found.mann_whitney)]
    equal = f"{found.equivalence:.2g} (± {found.margin:.4f})"
    return [f"{name}, {FIGURES[name]}", *means, f"{found.difference:+.4f}", *tests, smallest, equal]


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, "same-statistics", "any set of colour images")
    parser.add_argument("--seeds", type=int, default=8, help="trainings of each loop (8)")
    parser.add_argument("--epochs", type=int, default=3, help="of each training (3)")
    parser.add_argument("--images", type=int, default=10_000, help="of the training split (10,000)")
    parser.add_argument("--margin", type=float, default=0.05, help="that counts as equal, of the mean (0.05)")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f"--seeds {args.seeds} has no spread; give at least 2, for a result 5 or more")
    return args


def main() -> None:
    args = arguments()
    prepared = prepare(DataSpec(name=args.data, dir=args.data_dir, limit=args.images))
    results = trainings(prepared, TrainSpec(epochs=args.epochs, batch_size=BATCH), args.seeds)
    columns = {loop: {name: [r[name] for r in runs] for name in FIGURES} for loop, runs in results.items()}
    tests = [row(name, columns["ours"][name], columns["reference"][name], args.margin) for name in FIGURES]
    runs = [
        [str(seed), *(f"{columns[loop][name][seed]:.4f}" for name in FIGURES for loop in columns)]
        for seed in range(args.seeds)
    ]
    head = ["mean ± sd of", "ours", "reference", "difference", "Welch p", "Mann-Whitney p"]
    last = [f"found with {POWER:.0%} probability at {LEVEL:.0%}", f"TOST p (margin {args.margin:.0%})"]
    publish(
        "same-statistics",
        "Statistics of both loops",
        [
            f"ResNet-8, {prepared.info.n_train:,} training and {prepared.info.n_validation:,} validation images of "
            f"{args.data}, {args.epochs} epochs, batch {BATCH}, cosine; n = {args.seeds} seeds with each loop, drawn "
            "independently. A small Welch or Mann-Whitney p would show a difference; a small TOST p shows equality "
            "within the margin, a fraction of the reference's mean. Figures are those after the last epoch.",
            table([*head, *last], tests),
            "Every training:",
            table(["seed", *(f"{name}, {loop}" for name in FIGURES for loop in columns)], runs),
        ],
        args.out,
    )


if __name__ == "__main__":
    main()
