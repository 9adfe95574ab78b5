"""The tasks of the table: small parts of real data sets, made harder or easier in one way each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet import Shortcut, Version
from search.data import prepare
from search.spec import DataSpec

CONFIGURATIONS = 160
SPACE: Mapping[str, Any] = {
    "net.depth": [8, 14, 20],
    "net.version": [version.value for version in Version],
    "net.shortcut": [shortcut.value for shortcut in Shortcut],
    "train.lr": {"low": 0.003, "high": 0.5, "log": True},
    "train.weight_decay": {"low": 1e-5, "high": 1e-2, "log": True},
    "train.schedule": ["constant", "steps", "cosine", "one_cycle"],
}
VALIDATION = 1_000  # images: one is 0.1 points
ANIMALS, VEHICLES, TOPS = (2, 3, 4, 5, 6, 7), (0, 1, 8, 9), (0, 2, 3, 4, 6)
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)


@dataclass(frozen=True)
class Task:
    """One data set to train on."""

    source: str  # name of a data set
    images: int  # to train on
    epochs: int  # of a whole training
    classes: tuple[int, ...] = tuple(range(10))
    shrink: int = 1  # each square of so many pixels a side becomes one pixel, their mean
    grey: bool = False
    wrong: float = 0.0  # share of the labels, in all splits, that name another class
    flip: bool = True

    def write(self, path: Path, name: str, data_dir: str | None) -> float:
        """Writes the task as an .npz archive; returns the share of it that is to validate.

        Args:
            path: of the archive.
            name: of the data set in place of `source`, such as npz:PATH.
            data_dir: where the raw files are.
        """
        whole = prepare(DataSpec(name=name, dir=data_dir)).whole()
        labels = np.asarray(whole.labels)
        draw = np.random.default_rng(0)
        own = draw.permutation(np.flatnonzero(np.isin(labels, self.classes)))
        wanted = self.images + VALIDATION
        chosen, rest = own[:wanted], own[wanted : wanted + 20 * len(self.classes)]  # the table has no test error
        arrays: dict[str, NDArray[Any]] = {}
        for split, rows in (("train", chosen), ("test", rest)):
            arrays[f"x_{split}"] = self._pixels(np.asarray(whole.images[np.sort(rows)]))
            known = np.searchsorted(self.classes, labels[np.sort(rows)])
            others = (known + draw.integers(1, len(self.classes), len(known))) % len(self.classes)
            arrays[f"y_{split}"] = np.where(draw.random(len(known)) < self.wrong, others, known)
        np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
        return VALIDATION / wanted

    def _pixels(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        n, height, width, channels = images.shape
        if self.shrink > 1:
            parts = images.reshape(n, height // self.shrink, self.shrink, width // self.shrink, self.shrink, channels)
            images = parts.mean((2, 4)).round().astype(np.uint8)
        if self.grey:
            images = (images @ LUMA).round().astype(np.uint8)[..., None]
        return images


TASKS = {
    "digits": Task("digits", 400, 27, flip=False),
    "digits-few": Task("digits", 120, 27, flip=False),
    "fashion-tops": Task("fashion-mnist", 600, 18, classes=TOPS, shrink=2),
    "cifar10-vehicles-few": Task("cifar10", 400, 27, classes=VEHICLES, shrink=2),
    "fashion-small": Task("fashion-mnist", 1_000, 18, shrink=2),
    "cifar10-grey": Task("cifar10", 1_000, 18, shrink=2, grey=True),
    "cifar10-wrong-labels": Task("cifar10", 1_000, 18, shrink=2, wrong=0.2),
    "cifar10": Task("cifar10", 1_000, 9),
    "cifar10-animals": Task("cifar10", 1_000, 18, classes=ANIMALS, shrink=2),
    "cifar10-small": Task("cifar10", 1_500, 18, shrink=2),
    "fashion": Task("fashion-mnist", 600, 9),
}
