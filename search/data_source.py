"""What every kind of raw data must offer: its layout, known at once, and its images, read when they are prepared."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.errors import InputError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


def images_at_a_time(shape: tuple[int, ...]) -> int:
    """How many images of `shape` to hold in memory while streaming: about 32 MiB of them."""
    return max(1, 2**25 // math.prod(shape))


@dataclass(frozen=True)
class Images:
    """One shipped split: labels in memory, pixels read on demand.

    `stream` takes indices (n,) and yields their images in order, uint8 (k, H, W, C) at a time, about 32 MiB each.
    Closing it frees what it holds.
    """

    labels: Labels  # (n,)
    stream: Callable[[NDArray[np.int64]], Generator[Pixels]]

    @classmethod
    def of(cls, pixels: Pixels, labels: NDArray[np.generic]) -> "Images":
        """Images that are in memory already: uint8 (n, H, W) or (n, H, W, C)."""
        whole = pixels[..., None] if pixels.ndim == 3 else pixels
        step = images_at_a_time(whole.shape[1:])

        def stream(indices: NDArray[np.int64]) -> Generator[Pixels]:
            return (whole[indices[start : start + step]] for start in range(0, len(indices), step))

        return cls(np.asarray(labels, np.int64), stream)


@dataclass(frozen=True)
class Shipped:
    """The splits a data set comes with."""

    train: Images
    validation: Images | None
    test: Images | None


@dataclass(frozen=True)
class Counts:
    """Images per class in each shipped split; None where it is not shipped and will be carved from train."""

    train: tuple[int, ...]
    validation: tuple[int, ...] | None = None
    test: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """Raw data that was found, or that can be downloaded."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # (H, W, C)
    counts: Counts
    files: tuple[Path, ...]  # what was found; their names, sizes and times identify the content
    load: Callable[[], Shipped]
    download: Callable[[], None] | None = None  # set when the files are missing: fetches them

    @cached_property
    def identity(self) -> str:
        """Changes whenever a raw file changes, appears or disappears.

        The time of the last change of its content or its record (ctime) cannot be set, as the time of the last change
        of its content can be: by `touch`, `cp -p`, or an archive that is unpacked over another.
        """
        return "\n".join(f"{path} {stat.st_size} {stat.st_ctime_ns}" for path in self.files if (stat := path.stat()))


def require_every_class(classes: tuple[str, ...], counts: tuple[int, ...], where: str) -> None:
    """Refuse training images that leave a class out.

    Raises:
        InputError: naming the first class without an image.
    """
    if len(classes) < 2:
        raise InputError(f"data.name: {where} has {len(classes)} class; give images of at least 2 classes")
    for name, n in zip(classes, counts, strict=True):
        if n == 0:
            raise InputError(f"data.name: {where} has no training image of class {name!r}; add some or renumber")
