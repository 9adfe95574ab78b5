"""Batches from data on the device against PIL images: `python -m benchmarks.trial.augmentation --out`.

Crop and flip: both draw an epoch's order, crop 32 x 32 out of 40 x 40, mirror half of the images, normalise and put 128
together; ours with one gather a batch, the reference loop with torchvision's transforms image by image. Whole recipe,
with the images enlarged to 32 and 224 pixels: random resized crops, flips, TrivialAugment, random erasing, and mixup or
cutmix of each batch, against torchvision.transforms.v2 of the same names. One process on one thread and one core,
without DataLoader, in turns (A B, B A, ...); the first of each does not count. Where there is a GPU, ours is measured
there too. The core must be otherwise idle. It takes about ten minutes.
"""

import argparse
import time
from collections.abc import Callable

import torch
from PIL import Image
from torchvision.transforms import v2 as transforms

from benchmarks import report
from benchmarks.report import publish, ratios, spread, table, there_and_back
from benchmarks.trial import reference_loop
from benchmarks.trial.loops import BATCH, subset, trial
from benchmarks.trial.side_by_side import all_cores, pin
from search import training
from search.data import Prepared, Split
from search.spec import PreparedInfo, TrainSpec
from search.training import Resident, augment

WHOLE = {"crop": "resized", "trivial_augment": True, "random_erasing": 0.1, "mixup": 0.2, "cutmix": 1.0}


def ours(split: Resident, recipe: TrainSpec, epochs: int) -> Callable[[int], int]:
    """Makes so many epochs' batches as the training loop does; a call gives the number of images."""
    sides = split.images.shape[1], split.images.shape[2]

    def turn(seed: int) -> int:
        made = 0
        for epoch in range(epochs):
            draws = augment.draw(recipe, len(split), sides, seed * epochs + epoch)
            rows = {name: values.to(split.device) for name, values in draws.items()}
            for step in range(len(rows["order"])):
                made += len(augment.batch(split, recipe, {name: values[step] for name, values in rows.items()}).images)
        if split.device.type != "cpu":
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


def reference_recipe(images: torch.Tensor, labels: torch.Tensor, info: PreparedInfo) -> Callable[[int], int]:
    """Makes an epoch's batches of the whole recipe: PIL images one by one, and each batch mixed."""
    pictures = [Image.fromarray(image.numpy()) for image in images]
    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(images.shape[1:3]),
            transforms.RandomHorizontalFlip(),
            transforms.TrivialAugmentWide(),
            transforms.PILToTensor(),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(info.mean, info.std),
            transforms.RandomErasing(WHOLE["random_erasing"]),
        ]
    )
    classes = len(info.classes)
    mix = transforms.RandomChoice(
        [transforms.MixUp(alpha=0.2, num_classes=classes), transforms.CutMix(num_classes=classes)]
    )

    def turn(seed: int) -> int:
        torch.manual_seed(seed)
        made = 0
        for indices in torch.randperm(len(images)).split(BATCH):
            batch, _ = mix(torch.stack([change(pictures[int(index)]) for index in indices]), labels[indices])
            made += len(batch)
        return made

    return turn


def enlarged(split: Split, side: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `n` images, uint8 (n, side, side, channels), and their labels."""
    images = torch.from_numpy(split.images[:n]).permute(0, 3, 1, 2)
    sized = transforms.functional.resize(images, [side, side])
    return sized.permute(0, 2, 3, 1).contiguous(), torch.from_numpy(split.labels[:n])


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


def compared(
    split: Split, info: PreparedInfo, recipe: TrainSpec, theirs: Callable[[int], int], args: argparse.Namespace
) -> list[list[str]]:
    """Rows of a table: ours on each device, then PIL and torchvision."""
    devices = ["cpu", "cuda:0"] if torch.cuda.is_available() else ["cpu"]
    residents = [Resident.load(split, info.mean, info.std, torch.device(device)) for device in devices]
    *measured, usual = rates([*(ours(one, recipe, args.epochs) for one in residents), theirs], args.turns)
    rows = [
        [f"ours, {d}", spread(own), spread(ratios(own, usual), 1)] for d, own in zip(devices, measured, strict=True)
    ]
    return [*rows, ["PIL and torchvision, cpu", spread(usual), ""]]


def main() -> None:
    args = arguments()
    prepared = subset(args.data, args.steps, args.data_dir)
    info, usable = prepared.info, all_cores()
    pin(usable[:1])
    torch.set_num_threads(1)
    training.device.keep_freed_memory()  # as the worker of a study does
    rows = compared(prepared.train(), info, trial(info, 20).train, reference(prepared), args)
    found = [["crop and flip", *row] for row in rows]
    for side in (32, 224):
        n = max(1, args.steps * 32**2 // side**2) * BATCH
        images, labels = enlarged(prepared.train(), side, n)
        split = Split(images.numpy(), labels.numpy())
        recipe = TrainSpec(batch_size=BATCH, **WHOLE)
        rows = compared(split, info, recipe, reference_recipe(images, labels, info), args)
        found += [[f"whole recipe, {side} x {side}", *row] for row in rows]
    pin(usable)
    note = (
        f"{args.data}, batches of {BATCH}; an epoch has {args.steps * BATCH:,} images, at 224 x 224 {n:,}; a turn of "
        f"ours has {args.epochs} epochs, of PIL one; n = {args.turns} turns of each; medians with quartiles, of the "
        "ratio turn by turn."
    )
    publish(
        "augmentation",
        "Augmented batches on one core",
        [note, table(["", "", "images/s", "ratio"], found)],
        args.out,
    )


if __name__ == "__main__":
    main()
