"""Stratified splits that depend on the labels, fractions and a seed, and on nothing else.

Raw words of PCG64 order the images of a class: NumPy guarantees that stream across versions and machines, which it does
not for the methods of `Generator`.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from search.data.source import Source
from search.errors import InputError
from search.spec import DataInfo, DataSpec

Indices = NDArray[np.int64]
Part = tuple[str, Indices]  # some images: the shipped split that they are of, and their positions in it


class Stream(IntEnum):
    """Which split a draw is for, so that two splits of one seed are independent."""

    TEST = 0
    VALIDATION = 1
    LIMIT = 2


def portions(counts: Sequence[int], fraction: float) -> list[int]:
    """How many images of each class a split of `fraction` takes: rounded half up, at least 1 and never all of them.

    `counts` has the images per class, each at least 2.
    """
    exact = Fraction(str(fraction))  # the decimal that was typed, so that 0.15 of 10 is 2 and not 1
    return [min(max(int(exact * n + Fraction(1, 2)), 1), n - 1) for n in counts]


def quotas(counts: Sequence[int], total: int) -> list[int]:
    """Images of each class when only `total` are kept: proportional by largest remainder, at least 1 of each.

    Needs len(counts) <= total <= sum(counts), and every count at least 1.
    """
    n = sum(counts)
    shares = [total * count // n for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda c: (-(total * counts[c] % n), c))
    for c in by_remainder[: total - sum(shares)]:
        shares[c] += 1
    for c, share in enumerate(shares):
        if share == 0:
            shares[max(range(len(shares)), key=lambda k: shares[k])] -= 1
            shares[c] = 1
    return shares


def draw(labels: Indices, take: Sequence[int], seed: int, stream: Stream) -> Indices:
    """Positions in `labels` (n,), ascending, of `take[c]` images of every class c, drawn without replacement."""
    words = np.random.PCG64([seed, int(stream)]).random_raw(len(labels))
    order = np.lexsort((words, labels))  # class by class, in random order within each
    counts = np.bincount(labels, minlength=len(take))
    starts = np.cumsum(counts) - counts
    chosen = [order[start : start + n] for start, n in zip(starts, take, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def draw_groups(labels: Indices, groups: Indices, take: Sequence[int], seed: int, stream: Stream) -> Indices:
    """Positions in `labels` (n,), ascending, of whole groups: about `take[c]` images of every class c.

    Groups come in random order; one is taken where the numbers of images come nearer to what they should be.
    """
    numbers, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(numbers), len(take)), np.int64)
    np.add.at(counts, (group, labels), 1)
    left, chosen = np.array(take), np.zeros(len(numbers), bool)
    for one in np.argsort(np.random.PCG64([seed, int(stream)]).random_raw(len(numbers)), kind="stable"):
        if np.abs(left - counts[one]).sum() < np.abs(left).sum():
            left, chosen[one] = left - counts[one], True
    return np.flatnonzero(chosen[group]).astype(np.int64)


def planned(spec: DataSpec, source: Source) -> DataInfo:
    """The data set with the sizes of its splits, before any image is read.

    Raises:
        InputError: as `arrange` does.
    """
    labels = {split: np.repeat(np.arange(len(counts)), counts) for split, counts in source.counts.items()}
    parts = arrange(spec, source.classes, labels, source.groups)
    sizes = {f"n_{split}": len(where) for split, (_, where) in parts.items()}
    counts = {
        split: tuple(np.bincount(labels[of][where], minlength=len(source.classes)).tolist())
        for split, (of, where) in parts.items()
    }
    height, width, channels = source.shape
    return DataInfo(
        name=spec.name,
        classes=source.classes,
        height=height,
        width=width,
        channels=channels,
        counts_validation=counts["validation"],
        counts_test=counts["test"],
        **sizes,
        note=source.note,
    )


def arrange(
    spec: DataSpec, classes: Sequence[str], labels: Mapping[str, Indices], groups: Mapping[str, Indices] | None = None
) -> dict[str, Part]:
    """The images of train, validation and test, every image in one of them; test does not depend on the seed.

    Args:
        spec: fractions, seed and limit.
        classes: names of the labels.
        labels: shipped split -> the labels of its images; what lacks is carved from train.
        groups: shipped split -> the group of each image, where those of a group stay together.

    Raises:
        InputError: when a class is too small to be split, or `spec.limit` does not fit.
    """
    found = {split: (split, np.arange(len(values))) for split, values in labels.items()}
    left = found["train"][1]
    for split, fraction, seed, stream in (
        ("test", spec.test, 0, Stream.TEST),
        ("validation", spec.validation, spec.seed, Stream.VALIDATION),
    ):
        if split not in labels:
            counts = np.bincount(labels["train"][left], minlength=len(classes)).tolist()
            if min(counts) < 2:
                name = classes[counts.index(min(counts))]
                raise InputError(
                    f"data.{split}: class {name!r} has {min(counts)} image left, and 2 are needed to carve the {split} "
                    "split; add images"
                )
            of, take = labels["train"][left], portions(counts, fraction)
            if groups:
                taken = draw_groups(of, groups["train"][left], take, seed, stream)
                _check_groups(split, classes, of[taken], np.delete(of, taken))
            else:
                taken = draw(of, take, seed, stream)
            found[split] = "train", left[taken]
            left = np.delete(left, taken)
    if spec.limit is not None:
        if not len(classes) <= spec.limit <= len(left):
            raise InputError(
                f"data.limit = {spec.limit} is not between the {len(classes)} classes and the {len(left)} training "
                f"images of {spec.name}; choose a number in between, or leave it out"
            )
        kept = quotas(np.bincount(labels["train"][left]).tolist(), spec.limit)
        left = left[draw(labels["train"][left], kept, spec.seed, Stream.LIMIT)]
    return {"train": ("train", left), "validation": found["validation"], "test": found["test"]}


def _check_groups(split: str, classes: Sequence[str], taken: Indices, left: Indices) -> None:
    for labels in (taken, left):
        if lacks := sorted({*range(len(classes))} - {*labels.tolist()}):
            raise InputError(
                f"data.groups: the groups of class {classes[lacks[0]]!r} are too few or too large to carve the {split} "
                "split; give its images smaller groups"
            )
