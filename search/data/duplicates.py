"""Images that are nearly the same: saved again in another size or quality, or mirrored.

What is compared is where an image gets brighter and darker: pictures of the same kind of thing on the same background
are alike in their grey levels, not in these. In files below 64 pixels, what compression adds hides it.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from search.data.source import Pixels, images_at_a_time

SIDE = 32  # areas of an image in each direction; compression changes what is smaller
ALIKE = 0.95  # correlation of the slopes of two images
_LEVELS = 16  # steps of a grey level
_DOUBT = 1e-3  # of a correlation in 32 bits, which no two machines add in the same order
_AT_A_TIME = 4096  # images that are compared with as many

Slopes = NDArray[np.int32]  # (n, 2 x 31 x 31)


def alike(some: Pixels, known: Slopes) -> dict[int, int]:
    """Of `some` k the first of the `known` that is like it or like its mirror image, where there is one.

    An image of one colour is like no other. All machines find the same, for whole numbers decide.

    Args:
        some: uint8 (n, H, W, C).
        known: of images of the same size.
    """
    same, mirrored = _alike(slopes(some), known), _alike(slopes(some[:, :, ::-1]), known)
    return {k: min(found[k] for found in (same, mirrored) if k in found) for k in sorted(same.keys() | mirrored.keys())}


def repeated(images: Pixels, own: Slopes) -> int:
    """How many images are like an earlier one; `own` are theirs."""
    return sum(first < k for k, first in alike(images, own).items())


def slopes(images: Pixels) -> Slopes:
    """How much brighter each area is than the next, to the right and downwards, in sixteenths of a grey level."""
    height, width, channels = images.shape[1:]
    rows, columns = (np.arange(SIDE) * side // SIDE for side in (height, width))
    areas = np.outer(np.diff(rows, append=height).clip(1), np.diff(columns, append=width).clip(1))
    step = images_at_a_time((height, width, channels, 8))  # 64 bits a value
    made = [np.empty((0, 2 * (SIDE - 1) ** 2), np.int32)]
    for start in range(0, len(images), step):
        grey = images[start : start + step].sum(axis=3, dtype=np.int64)
        sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=1), columns, axis=2)
        bright = (_LEVELS * sums // (channels * areas)).astype(np.int32)
        right, down = np.diff(bright, axis=2)[:, :-1], np.diff(bright, axis=1)[:, :, :-1]
        made.append(np.stack([right, down], axis=1).reshape(len(bright), -1))
    return np.concatenate(made)


def _alike(ours: Slopes, theirs: Slopes) -> dict[int, int]:
    first: dict[int, int] = {}
    of_ours, of_theirs = _units(ours), _units(theirs)
    for row, column in itertools.product(range(0, len(ours), _AT_A_TIME), range(0, len(theirs), _AT_A_TIME)):
        near = of_ours[row : row + _AT_A_TIME] @ of_theirs[column : column + _AT_A_TIME].T > ALIKE - _DOUBT
        for k in map(int, row + np.flatnonzero(near.any(axis=1))):
            for j in map(int, column + np.flatnonzero(near[k - row])):
                if k not in first and _same(ours[k], theirs[j]):
                    first[k] = j
    return first


def _units(of: Slopes) -> NDArray[np.float32]:
    values = of.astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-6)


def _same(one: Slopes, other: Slopes) -> bool:
    a, b = one.astype(np.int64), other.astype(np.int64)
    product = int(a @ b)
    return product > 0 and product**2 >= ALIKE**2 * int(a @ a) * int(b @ b)
