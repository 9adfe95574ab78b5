"""Which image goes into which split: first as numbers, from the counts per class, then as positions."""

from dataclasses import dataclass

import numpy as np

from search.data_source import Images, Shipped, Source
from search.data_spec import DataInfo, DataSpec
from search.data_split import Indices, Stream, class_counts, draw, portions, quotas, rest
from search.errors import InputError

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
