"""What a training step makes small."""

from typing import assert_never

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as ops

from search.spec import Loss, TrainSpec
from search.training.augment import Batch

PRESENT = 0.2  # share of a mixed image above which it shows a label: timm's --bce-target-thresh of recipes A2 and A3


def training_loss(
    spec: TrainSpec, logits: Float[Tensor, "b k"], batch: Batch, weights: Float[Tensor, " k"] | None = None
) -> Float[Tensor, ""]:
    """Mean loss of the batch in nats, of binary cross-entropy also over the classes; with label smoothing.

    Cross-entropy of a mixed image is that of both labels by their shares. With `weights` of the classes the mean is
    weighted: by those of the labels, over their sum.
    """
    smoothing = spec.label_smoothing
    match spec.loss:
        case Loss.CROSS_ENTROPY if weights is not None and smoothing:
            return batch.measured(lambda labels: _smoothed(logits, labels, weights, smoothing))
        case Loss.CROSS_ENTROPY:
            return batch.measured(lambda labels: ops.cross_entropy(logits, labels, weights, label_smoothing=smoothing))
        case Loss.BCE:
            targets = present(logits, batch) * (1 - smoothing) + smoothing / logits.shape[1]
            own = None if weights is None else batch.measured(lambda labels: weights[labels])[:, None]
            return ops.binary_cross_entropy_with_logits(logits, targets, None if own is None else own / own.mean())
        case _:
            assert_never(spec.loss)


def _smoothed(
    logits: Float[Tensor, "b k"], labels: Int64[Tensor, " b"], weights: Float[Tensor, " k"], smoothing: float
) -> Float[Tensor, ""]:
    """`ops.cross_entropy` with weights and smoothing, which reads back there how many labels it is to leave out."""
    logs = logits.log_softmax(1)
    even = -(logs * weights).sum() / weights[labels].sum()
    return (1 - smoothing) * ops.nll_loss(logs, labels, weights) + smoothing / logits.shape[1] * even


def balanced_weights(labels: Int64[Tensor, " n"], classes: int) -> Float[Tensor, " k"]:
    """n / (classes x images of a class) for each class, of those that have images; 0 for the others.

    So all classes weigh the same in sum, and an image on average 1 (King and Zeng, "Logistic Regression in Rare Events
    Data", 2001).
    """
    images = torch.bincount(labels, minlength=classes)
    known = images > 0
    return torch.where(known, len(labels) / (known.sum() * images.clamp(min=1)), 0.0).float()


def present(logits: Float[Tensor, "b k"], batch: Batch) -> Float[Tensor, "b k"]:
    """1 for each class that an image shows, else 0.

    A mixed image shows both of its classes, however it is mixed (arXiv:2110.00476, section 2), but for one of which as
    good as nothing is left.
    """
    classes = torch.arange(logits.shape[1], device=logits.device)
    shares = batch.measured(lambda labels: (labels[:, None] == classes).float())
    return (shares > PRESENT).float()
