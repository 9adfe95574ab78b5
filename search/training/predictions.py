"""What a trained network says of the test images, kept in its last checkpoint: there is no second look at them."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from search.data import Split
from search.training.batches import Resident
from search.training.checkpoint import tested
from search.training.loop import Evaluation, evaluate

SHOWN = 12  # wrong answers of which the image is kept
SIDE = 160  # pixels that a side of such an image has at most


@dataclass(frozen=True)
class Predictions:
    """Of n test images, the class and the probability that a network gives each; of k wrong ones, how they look."""

    labels: NDArray[np.int32]  # (n,)
    given: NDArray[np.int32]  # (n,)
    probability: NDArray[np.float32]  # (n,), of the given class
    shown: NDArray[np.int64]  # (k,), which images are wrong with the highest probability, that first
    images: NDArray[np.uint8]  # (k, h, w, 1 or 3), sides of `SIDE` pixels at most
    names: NDArray[np.str_]  # (k,), their files; empty where the data is no folder of images

    @classmethod
    def by(
        cls, model: nn.Module, device: Resident, split: Split, names: Sequence[str]
    ) -> tuple[dict[str, float], Self]:
        """Metrics (as `Evaluation`) and answers of a network; the split is given on its device and on the disk."""
        found = evaluate(model, device)
        return found.metrics, cls.of(found, split, names)

    @classmethod
    def of(cls, evaluation: Evaluation, split: Split, names: Sequence[str]) -> Self:
        """Of a network that was run on this split, whose images are files with these names, if any."""
        wrong = np.flatnonzero(evaluation.labels != evaluation.given)
        shown = wrong[np.argsort(-evaluation.probability[wrong], kind="stable")[:SHOWN]]
        return cls(
            evaluation.labels.astype(np.int32),
            evaluation.given.astype(np.int32),
            evaluation.probability,
            shown,
            np.array([_thumbnail(split.images[k]) for k in shown], np.uint8),
            np.array([names[k] if names else "" for k in shown], np.str_),
        )

    @classmethod
    def of_training(cls, folder: str) -> Self | None:
        """Of a training that keeps its checkpoints in this folder or at this URL; None where it is not tested.

        Raises:
            Halted: the URL does not answer.
        """
        data = tested(folder)
        if data is None:
            return None
        with np.load(io.BytesIO(data)) as found:
            return cls(**found)

    @property
    def stored(self) -> bytes:
        """As a file, for `Checkpoint`."""
        file = io.BytesIO()
        np.savez_compressed(file, **asdict(self))
        return file.getvalue()

    def confusion(self, classes: int) -> NDArray[np.int64]:
        """(classes, classes): so many images of the class of the row are taken for that of the column."""
        return np.bincount(self.labels * classes + self.given, minlength=classes**2).reshape(classes, classes)


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, C) as it is shown: in colour, or the first channel where there are fewer than three."""
    picture = Image.fromarray(image[..., :3] if image.shape[2] >= 3 else image[..., 0])
    picture.thumbnail((SIDE, SIDE))
    small = np.asarray(picture)
    return small.reshape(*small.shape[:2], -1)
