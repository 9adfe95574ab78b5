"""The training loss against torch's own and against sums by hand."""

import math

import pytest
import torch

from search.spec import TrainSpec
from search.training.augment import Batch
from search.training.loss import training_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
LABELS, OTHERS = torch.tensor([0, 1]), torch.tensor([2, 1])
IMAGES = torch.zeros(2, 1, 1, 1)


def mixed(share: float) -> Batch:
    return Batch(IMAGES, LABELS, (OTHERS, torch.tensor(share)))


def binary(targets: list[list[float]]) -> float:
    """Mean binary cross-entropy in nats, term by term."""
    terms = [
        -target * math.log(1 / (1 + math.exp(-x))) - (1 - target) * math.log(1 / (1 + math.exp(x)))
        for row, own in zip(LOGITS.tolist(), targets, strict=True)
        for x, target in zip(row, own, strict=True)
    ]
    return sum(terms) / len(terms)


@pytest.mark.parametrize(
    ("smoothing", "batch", "targets"),
    [
        (0.0, Batch(IMAGES, LABELS), [[1, 0, 0], [0, 1, 0]]),
        (0.3, Batch(IMAGES, LABELS), [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]),  # 1 - 0.3 + 0.3 / 3, as timm has it
        (0.0, mixed(0.6), [[1, 0, 1], [0, 1, 0]]),  # both classes are there, whatever their shares
        (0.0, mixed(0.21), [[1, 0, 1], [0, 1, 0]]),
        (0.0, mixed(0.19), [[0, 0, 1], [0, 1, 0]]),  # of an image of which less than a fifth is left
        (0.0, mixed(0.95), [[1, 0, 0], [0, 1, 0]]),
        (0.3, mixed(0.6), [[0.8, 0.1, 0.8], [0.1, 0.8, 0.1]]),
        (0.0, mixed(1.0), [[1, 0, 0], [0, 1, 0]]),
        (0.0, mixed(0.0), [[0, 0, 1], [0, 1, 0]]),
    ],
)
def test_binary_cross_entropy_by_hand(smoothing: float, batch: Batch, targets: list[list[float]]) -> None:
    loss = training_loss(TrainSpec(loss="bce", label_smoothing=smoothing), LOGITS, batch)
    assert loss.item() == pytest.approx(binary(targets), rel=1e-6)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, torch.tensor(targets, dtype=torch.float32))
    torch.testing.assert_close(loss, theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_of_mixed_probabilities(smoothing: float) -> None:
    targets = 0.7 * torch.nn.functional.one_hot(LABELS, 3) + 0.3 * torch.nn.functional.one_hot(OTHERS, 3)
    expected = torch.nn.functional.cross_entropy(LOGITS, targets, label_smoothing=smoothing)
    torch.testing.assert_close(training_loss(TrainSpec(label_smoothing=smoothing), LOGITS, mixed(0.7)), expected)
    plain = torch.nn.functional.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
    found = training_loss(TrainSpec(label_smoothing=smoothing), LOGITS, Batch(IMAGES, LABELS))
    torch.testing.assert_close(found, plain)


def test_certain_logits_give_no_infinite_loss() -> None:
    loss = training_loss(TrainSpec(loss="bce"), torch.tensor([[1e4, -1e4, -1e4]]), Batch(IMAGES[:1], torch.tensor([1])))
    assert loss.item() == pytest.approx(2e4 / 3)
