"""The training loop that users copy, to measure ours against. No part of it comes from `search`'s loop.

PIL images one by one through torchvision's transforms, a DataLoader with worker processes, float32 in the default
memory format, torch.optim.SGD as it comes, torch's own schedules, `.item()` of loss and accuracy after every step.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from resnet import build
from search.data import Prepared, Split
from search.spec import Schedule, TrainSpec, TrialSpec


class Images(Dataset[tuple[Tensor, int]]):
    """A split as torchvision's data sets are: an array, a PIL image an item, a transform."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.split.images[index])), int(self.split.labels[index])


def loader(split: Split, prepared: Prepared, spec: TrainSpec, training: bool, workers: int) -> DataLoader[Any]:
    """Batches as in torchvision's examples; training crops, mirrors and shuffles."""
    chosen: list[Any] = []
    if training and spec.crop_padding:
        chosen.append(transforms.RandomCrop(split.images.shape[1], padding=spec.crop_padding))
    if training and spec.flip:
        chosen.append(transforms.RandomHorizontalFlip())
    transform = transforms.Compose(
        [*chosen, transforms.ToTensor(), transforms.Normalize(prepared.info.mean, prepared.info.std)]
    )
    return DataLoader(
        Images(split, transform),
        batch_size=spec.batch_size,
        shuffle=training,
        drop_last=training,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )


def schedule(optimiser: torch.optim.SGD, spec: TrainSpec, steps: int) -> LRScheduler:
    """torch's scheduler, moved after every step."""
    match spec.schedule:
        case Schedule.COSINE if not spec.warmup:
            return CosineAnnealingLR(optimiser, T_max=steps)
        case Schedule.ONE_CYCLE:
            return OneCycleLR(optimiser, spec.lr, total_steps=steps, pct_start=spec.warmup, cycle_momentum=False)
        case _:
            raise ValueError(f"the reference loop has no {spec.schedule}; use cosine without warm-up, or one_cycle")


@dataclass(frozen=True)
class Parts:
    """What the loop works with."""

    device: torch.device
    model: nn.Module
    criterion: nn.Module
    optimiser: torch.optim.SGD
    scheduler: LRScheduler
    batches: DataLoader[Any]  # of the training split


def parts(spec: TrialSpec, prepared: Prepared, workers: int) -> Parts:
    """A network, an optimiser and its schedule for one training; `workers` processes decode and augment."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(spec.train.seed)
    model = build(spec.net).to(device)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=spec.train.lr,
        momentum=spec.train.momentum,
        weight_decay=spec.train.weight_decay,
        nesterov=spec.train.nesterov,
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=spec.train.label_smoothing)
    batches = loader(prepared.train(), prepared, spec.train, True, workers)
    scheduler = schedule(optimiser, spec.train, spec.train.epochs * len(batches))
    return Parts(device, model, criterion, optimiser, scheduler, batches)


def steps(loop: Parts) -> Iterator[tuple[float, int, int]]:
    """One epoch, step by step: sum of the losses (nats), wrong answers, images."""
    loop.model.train()
    for images, labels in loop.batches:
        images, labels = images.to(loop.device), labels.to(loop.device)
        logits = loop.model(images)
        loss = loop.criterion(logits, labels)
        loop.optimiser.zero_grad()
        loss.backward()
        loop.optimiser.step()
        loop.scheduler.step()
        yield loss.item() * len(labels), (logits.argmax(1) != labels).sum().item(), len(labels)


def train(spec: TrialSpec, prepared: Prepared, workers: int) -> Iterator[dict[str, float]]:
    """Trains and validates; yields the metrics of each epoch, and at last those of the test split.

    Args:
        spec: network and training.
        prepared: the data set.
        workers: processes that decode and augment.
    """
    loop = parts(spec, prepared, workers)
    validation = loader(prepared.validation(), prepared, spec.train, False, workers)
    for number in range(1, spec.train.epochs + 1):
        began = time.perf_counter()
        loss, wrong, seen = (sum(column) for column in zip(*steps(loop), strict=True))
        trained = time.perf_counter()
        val_loss, val_error = evaluate(loop.model, validation, loop.device)
        yield {
            "epoch": number,
            "train/loss": loss / seen,
            "train/error": 100 * wrong / seen,
            "val/loss": val_loss,
            "val/error": val_error,
            "cost/images_per_s": seen / (trained - began),
            "cost/seconds": time.perf_counter() - began,
        }
    test = loader(prepared.test(), prepared, spec.train, False, workers)
    test_loss, test_error = evaluate(loop.model, test, loop.device)
    yield {"test/loss": test_loss, "test/error": test_error}


@torch.no_grad()
def evaluate(model: nn.Module, batches: DataLoader[Any], device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy (nats) and error (percent)."""
    model.eval()
    loss, wrong, seen = 0.0, 0, 0
    for images, labels in batches:
        logits = model(images.to(device))
        loss += nn.functional.cross_entropy(logits, labels.to(device), reduction="sum").item()
        wrong += (logits.argmax(1) != labels.to(device)).sum().item()
        seen += len(labels)
    return loss / seen, 100 * wrong / seen
