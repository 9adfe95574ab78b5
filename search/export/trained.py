"""What is exported: a trained network, its weights and data, and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnet.classifier import Exported
from resnet.images import ImageSpec
from search.data import Prepared
from search.spec import TrialSpec
from search.statistics import Interval, effective_images, mean_error_interval, standard_error
from search.training import Resident


@dataclass(frozen=True)
class Facts:
    """What the model card says. Errors in percent."""

    study: str
    description: str
    training: str  # which training the weights are of, such as "trial 7, seed 2"
    chosen: str  # why this one, as a clause
    trained_on: int  # images
    epochs: int  # trained
    val_error: float | None = None  # None where the validation images were trained on
    tested: Mapping[int, float] = field(default_factory=dict)  # seed -> test error, of all trainings of the network
    measure: str = "error"  # which errors these are: of all images, or the `balanced_error`, the mean of the classes'
    level: float = 0.95  # of the interval
    versions: Mapping[str, str] = field(default_factory=dict)  # it is exported with

    @property
    def test_error(self) -> float | None:
        """Mean over the trainings; None where the test split was not read."""
        return fmean(self.tested.values()) if self.tested else None

    def interval(self, images: int) -> Interval | None:
        """Of the mean test error on so many images; None for fewer than 2 trainings."""
        return mean_error_interval(tuple(self.tested.values()), self.level, 100 / images)


@dataclass(frozen=True)
class Exportable:
    """A trained network with all that its folder is made of."""

    spec: TrialSpec
    weights: Path  # safetensors: the network's state_dict
    data: Prepared  # what it was trained on; of its images, only those of the validation split are looked at
    facts: Facts

    def config(self, weights_sha256: str) -> Exported:
        """`config.json`. No path of this machine is in it."""
        info = self.data.info
        height, width = self.spec.train.sides(info.shape[:2])
        fit = "centre" if info.name.startswith("imagefolder:") else "none"
        return Exported(
            net=self.spec.net,
            classes=info.classes,
            image=ImageSpec(height=height, width=width, channels=info.channels, fit=fit),
            mean=info.mean,
            std=info.std,
            weights_sha256=weights_sha256,
            about=self._about(),
        )

    def images(self, count: int) -> NDArray[np.uint8]:
        """The first images of the validation split, as the network sees them."""
        info = self.data.info
        split = Resident.load(self.data.validation(), info.mean, info.std, torch.device("cpu"))
        return np.array(split.at(self.spec.train.image_size).seen(slice(count)))

    @property
    def data_name(self) -> str:
        """The data set, of a path only the last part."""
        kind, _, path = self.data.info.name.partition(":")
        return f"{kind}:{PurePath(path).name}" if path else kind

    def margin(self, error: float, split: str) -> float:
        """Standard error, in points, of an error in percent on a split of the data."""
        info = self.data.info
        counts = {"validation": info.counts_validation, "test": info.counts_test}[split]
        return standard_error(
            error, effective_images(counts) if self.facts.measure == "balanced_error" else sum(counts)
        )

    def _about(self) -> dict[str, Any]:
        info, facts = self.data.info, self.facts
        found = facts.interval(info.n_test)
        return {
            **{name: getattr(facts, name) for name in ("study", "training", "epochs", "val_error", "test_error")},
            "measure": facts.measure,
            "spec_digest": self.spec.digest,
            "train": self.spec.train.model_dump(mode="json") | {"start": PurePath(self.spec.train.start).name},
            "data": {
                "name": self.data_name,
                "digest": info.digest,
                "train": info.n_train,
                "validation": info.n_validation,
                "test": info.n_test,
                "trained_on": facts.trained_on,
            },
            "test_interval": [found.low, found.high] if found else None,
            "test_level": found.level if found else None,
            "test_error_by_seed": {str(seed): error for seed, error in facts.tested.items()},
            "versions": dict(facts.versions),
        }
