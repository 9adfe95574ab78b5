"""Batches from data on the device against PIL images: `python -m benchmarks.trial.augmentation --out`.

Both draw an epoch's order, crop 32 x 32 out of 40 x 40, mirror half of the images, normalise and put 128 together; ours
with one gather a batch, the reference loop with torchvision's transforms image by image. One process on one thread and
one core, without DataLoader, in turns (A B, B A, ...); the first of each does not count. Where there is a GPU, ours is
measured there too. The core must be otherwise idle. It takes about a minute.
"""

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks import report
from benchmarks.report import publish, ratios, spread, table, there_and_back
from benchmarks.trial import reference_loop
from benchmarks.trial.loops import BATCH, subset, trial
from benchmarks.trial.side_by_side import all_cores, pin
from search import training
from search.data import Prepared
from search.training import Resident, augment


def ours(prepared: Prepared, device: str, epochs: int) -> Callable[[int], int]:
    """Makes so many epochs' batches as the training loop does; a call gives the number of images."""
    recipe = trial(prepared.info, 20).train
    split = Resident.load(prepared.train(), prepared.info.mean, prepared.info.std, torch.device(device))

    def turn(seed: int) -> int:
        made = 0
        for epoch in range(epochs):
            draws = augment.draw(recipe, len(split), (prepared.info.height, prepared.info.width), seed * epochs + epoch)
            rows = {name: values.to(device) for name, values in draws.items()}
            for step in range(len(rows["order"])):
                made += len(augment.batch(split, recipe, {name: values[step] for name, values in rows.items()}).images)
        if device != "cpu":
            torch.cuda.synchronize()
        return made

    return turn


def reference(prepared: Prepared) -> Callable[[int], int]:
    """Makes an epoch's batches with the data set and the transforms of the reference loop."""
    images = reference_loop.loader(prepared.train(), prepared, trial(prepared.info, 20).train, True, 0).dataset
    n = prepared.info.n_train // BATCH * BATCH

    def turn(seed: int) -> int:
        torch.manual_seed(seed)
        made = 0
        for indices in torch.randperm(prepared.info.n_train)[:n].split(BATCH):
            items = [images[int(index)] for index in indices]
            batch = torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])
            made += len(batch[0])
        return made

    return turn


def rates(makers: list[Callable[[int], int]], turns: int) -> list[list[float]]:
    """Images/s of each, turn by turn."""
    found: list[list[float]] = [[] for _ in makers]
    for turn in range(-1, turns):
        for which in there_and_back(range(len(makers)), turn):
            began = time.perf_counter()
            made = makers[which](turn + 1)
            if turn >= 0:
                found[which].append(made / (time.perf_counter() - began))
    return found


def arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, "augmentation", "any set of colour images")
    parser.add_argument("--turns", type=int, default=15, help="of each that count (15)")
    parser.add_argument("--steps", type=int, default=40, help="batches of an epoch (40)")
    parser.add_argument("--epochs", type=int, default=8, help="of ours in a turn, so that it takes as long (8)")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    prepared = subset(args.data, args.steps, args.data_dir)
    usable = all_cores()
    pin(usable[:1])
    torch.set_num_threads(1)
    training.device.keep_freed_memory()  # as the worker of a study does
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    *measured, theirs = rates([*(ours(prepared, d, args.epochs) for d in devices), reference(prepared)], args.turns)
    pin(usable)
    rows = [
        [f"ours, {d}", spread(own), spread(ratios(own, theirs), 1)] for d, own in zip(devices, measured, strict=True)
    ]
    note = (
        f"{args.data}, batches of {BATCH}; ours {args.epochs * args.steps * BATCH:,} images a turn, PIL "
        f"{args.steps * BATCH:,}; n = {args.turns} turns of each; medians with quartiles, of the ratio turn by turn."
    )
    rows.append(["PIL and torchvision, cpu", spread(theirs), ""])
    publish("augmentation", "Augmented batches on one core", [note, table(["", "images/s", "ratio"], rows)], args.out)


if __name__ == "__main__":
    main()
