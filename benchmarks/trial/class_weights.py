"""What weights of the classes do where their numbers differ: `python -m benchmarks.trial.class_weights --out`.

ResNet-8 on a data set of which the classes have fewer and fewer images, from all of the first class to one in 50 of the
last, in equal ratios (the long tail of arXiv:1901.05555, section 5.1); with and without `train.class_weights:
balanced`, the same seeds. Errors are on the whole test split, whose classes are alike in number, as the balanced error
counts them. Nothing is timed: the machine may be busy. The smallest is `--data digits`.
"""

import argparse
import statistics
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks import report
from benchmarks.report import publish, table
from benchmarks.trial.loops import BATCH
from resnet import NetSpec
from search.data import Prepared, Split, prepare
from search.spec import DataSpec, TrainSpec, TrialSpec
from search.statistics import mean_interval
from search.training import Resident, train
from search.training.loop import evaluate

WEIGHTS = ("none", "balanced")
FIGURES = ("balanced_error", "error")


def long_tail(split: Split, ratio: float) -> Split:
    """Of class k, of C, the first ratio^(-k / (C - 1)) n images, one at least, where the first class has n."""
    images = np.bincount(split.labels)
    kept = np.ceil(images[0] * ratio ** (-np.arange(len(images)) / (len(images) - 1))).astype(int)
    chosen = np.sort(np.concatenate([np.flatnonzero(split.labels == k)[:n] for k, n in enumerate(kept)]))
    return Split(np.ascontiguousarray(split.images[chosen]), split.labels[chosen])


def tested(prepared: Prepared, tail: Split, recipe: TrainSpec) -> dict[str, float]:
    """Test errors after the last epoch of one training."""
    info, where = prepared.info, torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    net = NetSpec(depth=8, in_channels=info.channels, num_classes=len(info.classes), image_size=info.height)
    training, test = (Resident.load(split, info.mean, info.std, where) for split in (tail, prepared.test()))
    *_, last = train(TrialSpec(net=net, train=recipe), training, None)
    found = evaluate(last.model, test).metrics
    print(f"{recipe.class_weights}, seed {recipe.seed}: {found['balanced_error']:.2f} %", flush=True)
    return found


def mean(values: Sequence[float], sign: str = "") -> str:
    """Mean with its 95 % interval (Student's)."""
    found = mean_interval(values)
    between = "" if found is None else f" ({found.low:{sign}.2f} to {found.high:{sign}.2f})"
    return f"{statistics.fmean(values):{sign}.2f}{between}"


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, "class-weights", "any data set")
    parser.add_argument("--seeds", type=int, default=5, help="trainings with and without weights (5)")
    parser.add_argument("--epochs", type=int, default=30, help="of each training (30)")
    parser.add_argument("--ratio", type=float, default=50, help="images of the first class to those of the last (50)")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f"--seeds {args.seeds} has no interval; give at least 2")
    return args


def main() -> None:
    args = arguments()
    prepared = prepare(DataSpec(name=args.data, dir=args.data_dir))
    tail = long_tail(prepared.train(), args.ratio)
    size = min(BATCH, max(2, len(tail) // 8))
    small = prepared.info.height < 32
    recipe = TrainSpec(epochs=args.epochs, batch_size=size, **({"crop_padding": 1, "flip": False} if small else {}))
    asked = {name: TrainSpec.model_validate(recipe.model_dump() | {"class_weights": name}) for name in WEIGHTS}
    runs = [
        {name: tested(prepared, tail, spec.model_copy(update={"seed": seed})) for name, spec in asked.items()}
        for seed in range(args.seeds)
    ]
    columns = {figure: {name: [run[name][figure] for run in runs] for name in WEIGHTS} for figure in FIGURES}
    rows = [
        [figure.replace("_", " "), *(mean(of[name]) for name in WEIGHTS), mean(difference(*of.values()), "+")]
        for figure, of in columns.items()
    ]
    counts = np.bincount(tail.labels)
    publish(
        "class-weights",
        "Weights of the classes",
        [
            f"ResNet-8, {len(tail):,} images of {args.data}, {counts.max():,} to {counts.min():,} of a class, "
            f"{args.epochs} epochs, batch {size}, cosine; n = {args.seeds} seeds; test errors in percent with 95 % "
            "intervals of their mean; balanced less none seed by seed.",
            table(["", *WEIGHTS, "balanced less none"], rows),
        ],
        args.out,
    )


def difference(none: Sequence[float], balanced: Sequence[float]) -> list[float]:
    """Balanced less none, by seed."""
    return [b - a for a, b in zip(none, balanced, strict=True)]


if __name__ == "__main__":
    main()
