"""Both training loops in one shape, for processes of their own: a call gives an iterator of trained epochs."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from benchmarks.trial import reference_loop
from resnet import NetSpec
from search.data import Prepared, prepare
from search.spec import DataSpec, PreparedInfo, TrainSpec, TrialSpec
from search.training import Compiler, Resident, device, noise, train, train_together
from search.training.speed import Span as Epoch

BATCH = 128
STUDY_STEPS = 30 * (45_000 // BATCH)  # of a trial in the shipped study `cifar10`


@dataclass(frozen=True)
class Span(Epoch):
    """With all that was measured of the epoch."""

    metrics: dict[str, float]


Loop = Callable[[], Iterator[Span]]


@dataclass(frozen=True)
class Ours:
    """The product's loop on the GPU if there is one."""

    spec: TrialSpec
    prepared: Prepared

    def __call__(self) -> Iterator[Span]:
        where = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        if where.type == "cpu":
            device.keep_freed_memory()  # as the worker of a study does
        scale = self.prepared.info.mean, self.prepared.info.std
        splits = self.prepared.train(), self.prepared.validation()
        training, validation = (Resident.load(split, *scale, where) for split in splits)
        for epoch in train(self.spec, training, validation):
            yield span(epoch.metrics, self.prepared.info.n_train, self.spec.train.batch_size)


@dataclass(frozen=True)
class OnNoise:
    """The product's loop on a GPU, on `steps` batches of random images, without validation; `together`: of seeds."""

    spec: TrialSpec
    image: tuple[int, int, int]  # height, width, channels
    steps: int
    compiler: Compiler | None = None
    together: int = 1

    def __call__(self) -> Iterator[Span]:
        images = noise(self.spec, self.image, torch.device("cuda", 0), self.steps)
        seeds = [self.spec.train.model_copy(update={"seed": seed}) for seed in range(self.together)]
        trainings = [(self.spec.model_copy(update={"train": train}), None) for train in seeds]
        for epochs in train_together(trainings, images, None, self.compiler):
            seconds = sum(epoch.metrics["cost/seconds"] for epoch in epochs)
            metrics = epochs[0].metrics | {"cost/seconds": seconds}
            yield span(metrics, len(epochs) * len(images), self.spec.train.batch_size)


@dataclass(frozen=True)
class Reference:
    """The reference loop with so many DataLoader workers. The test split is never evaluated."""

    spec: TrialSpec
    prepared: Prepared
    workers: int

    def __call__(self) -> Iterator[Span]:
        epochs = reference_loop.train(self.spec, self.prepared, self.workers)
        for metrics in itertools.islice(epochs, self.spec.train.epochs):
            yield span(metrics, self.prepared.info.n_train, self.spec.train.batch_size)


@dataclass(frozen=True)
class ReferenceSteps:
    """The reference loop with so many DataLoader workers, `steps` steps of one long epoch at a time.

    Its workers start once. In an epoch as short as a turn, their start, and the copies that the system makes of every
    page which the parent then writes, would weigh far more than in a training.
    """

    spec: TrialSpec
    prepared: Prepared
    workers: int
    steps: int

    def __call__(self) -> Iterator[Span]:
        done = reference_loop.steps(reference_loop.parts(self.spec, self.prepared, self.workers))
        while True:
            began = time.monotonic()
            images = sum(n for _, _, n in itertools.islice(done, self.steps))
            yield Span(began, time.monotonic(), images, {})


def span(metrics: dict[str, float], n: int, batch: int) -> Span:
    """The epoch over `n` images that has just ended; both loops leave the incomplete batch out."""
    images = n // batch * batch
    began = time.monotonic() - metrics["cost/seconds"]
    return Span(began, began + images / metrics["cost/images_per_s"], images, metrics)


def subset(data: str, steps: int | None, data_dir: str | None = None) -> Prepared:
    """So many full batches of a data set (None: all of it) to train on, and as few as possible to validate on."""
    limit = None if steps is None else steps * BATCH
    return prepare(DataSpec(name=data, dir=data_dir, limit=limit, validation=1e-4))


def trial(info: PreparedInfo, depth: int, net: Mapping[str, str] | None = None, steps: int = STUDY_STEPS) -> TrialSpec:
    """A trial of `steps` steps in all: what a loop does once for a trial must pay off over as many."""
    shape = {"in_channels": info.channels, "num_classes": len(info.classes), "image_size": info.height}
    epochs = -(-steps // max(1, info.n_train // BATCH))
    return TrialSpec(
        net=NetSpec.model_validate({"depth": depth} | shape | dict(net or {})),
        train=TrainSpec(batch_size=BATCH, epochs=epochs),
    )
