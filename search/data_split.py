"""Stratified splits that depend on the labels, a fraction and a seed, and on nothing else.

Raw words of PCG64 order the images of a class: NumPy guarantees that stream across versions and machines, which it does
not for the methods of `Generator`.
"""

from collections.abc import Sequence
from enum import IntEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

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
