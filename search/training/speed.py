"""How fast a trial trains on this device."""

from dataclasses import replace

import torch

from search.spec import TrialSpec
from search.training.batches import Resident
from search.training.loop import train

STEPS, EPOCHS = 50, 3  # of one timing; the first epoch warms up
DATA = 2**30  # bytes of random images at most
EVALUATED = 512  # images


def images_per_s(spec: TrialSpec, training: Resident) -> float:
    """Training speed on the device where `training` lies, by the same code as a trial's, once it is warm."""
    # Noise is not to be learnt, nor to diverge; and what trains is the whole network.
    short = spec.train.model_copy(update={"epochs": EPOCHS, "lr": 1e-6, "freeze_epochs": 0})
    part = slice(0, EVALUATED)
    validation = replace(training, images=training.images[part], labels=training.labels[part])
    epochs = train(spec.model_copy(update={"train": short}), training, validation)
    rates = [epoch.metrics["cost/images_per_s"] for epoch in epochs]
    return max(rates[1:] or rates)


def noise(spec: TrialSpec, shape: tuple[int, int, int], where: torch.device, steps: int = 0) -> Resident:
    """Random images of `shape` (height, width, channels): `steps` batches (0: STEPS), or as many as DATA holds."""
    size = spec.train.batch_size
    count = size * max(1, min(steps or STEPS, DATA // (size * shape[0] * shape[1] * shape[2])))
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, device=where)
    labels = torch.randint(0, spec.net.num_classes, (count,), device=where)
    scale = torch.full((shape[2],), 0.5, device=where)
    return Resident(images, labels, scale, scale)
