"""What a folder of images holds: sizes, grey images, and images that are nearly the same."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search.data.duplicates import alike, repeated, slopes
from search.data.source import Pixels, Source
from search.spec import Survey


def survey(source: Source, names: Sequence[str], tested: Sequence[str], known: Pixels, test: Pixels) -> Survey:
    """Of a folder whose images can all be read.

    Args:
        source: the folder.
        names: of the images to train on and to validate by, in the order of `known`.
        tested: of the test images, in the order of `test`.
        known, test: uint8 (n, H, W, C).
    """
    sides = _sides(source.files)
    shorter, learned = sides.min(axis=1), slopes(known)
    return Survey(
        counts=dict(zip(source.classes, map(sum, zip(*source.counts.values(), strict=True)), strict=True)),
        shortest=int(sides.min()),
        median=int(np.median(shorter)),
        longest=int(sides.max()),
        enlarged=int((shorter < min(source.shape[:2])).sum()),
        grey=_grey(known) + _grey(test),
        repeated=repeated(known, learned),
        shared=tuple((tested[k], names[j]) for k, j in alike(test, learned).items()),
    )


def _grey(images: Pixels) -> int:
    return sum(bool((image == image[..., :1]).all()) for image in images)


def _sides(files: Sequence[Path]) -> NDArray[np.int64]:
    """Width and height of each, from its header."""
    sides = np.empty((len(files), 2), np.int64)
    for place, path in enumerate(files):
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            sides[place] = image.size
    return sides
