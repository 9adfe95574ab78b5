"""Stratified splits that depend on the labels, a fraction and a seed, and on nothing else.

Raw words of PCG64 order the images of a class: NumPy guarantees that stream across versions and machines, which it does
not for the methods of `Generator`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from search.data.source import Images, Shipped, Source
from search.errors import InputError
from search.spec import DataInfo, DataSpec

Indices = NDArray[np.int64]


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
    ends = np.cumsum(np.bincount(labels, minlength=len(take)))
    starts = ends - np.bincount(labels, minlength=len(take))
    chosen = [order[start : start + n] for start, n in zip(starts, take, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def rest(n: int, taken: Indices) -> Indices:
    """The positions of range(n) that are not in `taken`, ascending."""
    keep = np.ones(n, dtype=bool)
    keep[taken] = False
    return np.flatnonzero(keep).astype(np.int64)


def class_counts(labels: Indices, n_classes: int) -> tuple[int, ...]:
    """Images per class."""
    return tuple(int(n) for n in np.bincount(labels, minlength=n_classes))


Part = tuple[Images, Indices]  # some images of a shipped split


@dataclass(frozen=True)
class Arrangement:
    """The images of each split, every image in one split only."""

    train: Part
    validation: Part
    test: Part


def planned(spec: DataSpec, source: Source) -> DataInfo:
    """The data set with the sizes of its splits, before any image is read.

    Raises:
        InputError: when a class is too small to be split, or `spec.limit` does not fit.
    """
    train, validation, test = source.counts.train, source.counts.validation, source.counts.test
    if test is None:
        train, test = _carve(source.classes, train, spec.test, "test")
    if validation is None:
        train, validation = _carve(source.classes, train, spec.validation, "validation")
    n_train = sum(train)
    if spec.limit is not None and not len(train) <= spec.limit <= n_train:
        raise InputError(
            f"data.limit = {spec.limit} is not between the {len(train)} classes and the {n_train} training images of "
            f"{spec.name}; choose a number in between, or leave it out"
        )
    height, width, channels = source.shape
    return DataInfo(
        name=spec.name,
        classes=source.classes,
        height=height,
        width=width,
        channels=channels,
        n_train=spec.limit or n_train,
        n_validation=sum(validation),
        n_test=sum(test),
    )


def _carve(
    classes: tuple[str, ...], counts: tuple[int, ...], fraction: float, split: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What stays and what is taken, per class, when `split` is carved from images with these counts."""
    for name, n in zip(classes, counts, strict=True):
        if n < 2:
            raise InputError(
                f"data.{split}: class {name!r} has {n} image left, and 2 are needed to carve the {split} split; "
                "add images"
            )
    taken = portions(counts, fraction)
    return tuple(n - k for n, k in zip(counts, taken, strict=True)), tuple(taken)


def arrange(spec: DataSpec, shipped: Shipped, n_classes: int) -> Arrangement:
    """The positions behind the numbers of `planned`, stratified; test does not depend on the seed."""
    labels = shipped.train.labels
    train = _all(shipped.train)
    if shipped.test is None:
        test = shipped.train, draw(labels, portions(class_counts(labels, n_classes), spec.test), 0, Stream.TEST)
        train = rest(len(labels), test[1])
    else:
        test = shipped.test, _all(shipped.test)
    if shipped.validation is None:
        take = portions(class_counts(labels[train], n_classes), spec.validation)
        carved = draw(labels[train], take, spec.seed, Stream.VALIDATION)
        validation, train = (shipped.train, train[carved]), train[rest(len(train), carved)]
    else:
        validation = shipped.validation, _all(shipped.validation)
    if spec.limit is not None:
        take = quotas(class_counts(labels[train], n_classes), spec.limit)
        train = train[draw(labels[train], take, spec.seed, Stream.LIMIT)]
    return Arrangement((shipped.train, train), validation, test)


def _all(images: Images) -> Indices:
    return np.arange(len(images.labels), dtype=np.int64)
