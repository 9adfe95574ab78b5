"""Weights of the classes, against scikit-learn and torch."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from resnet import NetSpec, build
from search.errors import InputError
from search.spec import TrainSpec, TrialSpec
from search.training import train
from search.training.augment import Batch, draw
from search.training.batches import Resident
from search.training.loss import balanced_weights, training_loss
from search.training.step import Step
from tests.support.sample_digits import resident

NET = NetSpec(in_channels=1, depth=8)
LABELS = torch.tensor([0] * 50 + [1] * 5 + [2] * 1 + [4] * 7)


def spec(**train: object) -> TrainSpec:
    return TrainSpec(**{"crop_padding": 0, "flip": False, "batch_size": 16, **train})  # pyright: ignore[reportArgumentType]


def test_weights_are_those_of_sklearn() -> None:
    known = np.unique(LABELS)
    expected = compute_class_weight("balanced", classes=known, y=LABELS.numpy())
    made = balanced_weights(LABELS, 6)
    np.testing.assert_allclose(made[known], expected, rtol=1e-6)
    assert made[[3, 5]].tolist() == [0, 0], "of classes without images"
    assert made[LABELS].mean().item() == pytest.approx(1)


def test_classes_alike_in_number_have_weight_1() -> None:
    assert balanced_weights(torch.arange(30) % 10, 10).tolist() == [1.0] * 10


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_loss_is_that_of_torch(smoothing: float, mixed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(16, 6, generator=generator), LABELS[torch.randperm(63, generator=generator)[:16]]
    weights, share = balanced_weights(LABELS, 6), torch.tensor(0.3)
    other = labels.roll(1, 0)
    asked = spec(class_weights="balanced", label_smoothing=smoothing, mixup=0.2 if mixed else 0.0)
    made = training_loss(asked, logits, Batch(logits, labels, (other, share) if mixed else None), weights)

    def expected(of: torch.Tensor) -> torch.Tensor:
        """By hand: of the smoothed labels, over the sum of the labels' weights (torch's documentation)."""
        hard = torch.nn.functional.one_hot(of, 6) * (1 - smoothing) + smoothing / 6
        return -(hard * weights * logits.log_softmax(1)).sum() / weights[of].sum()

    by_hand = 0.3 * expected(labels) + 0.7 * expected(other) if mixed else expected(labels)
    torch.testing.assert_close(made, by_hand)
    if not mixed:
        torch.testing.assert_close(made, cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing))


def test_of_binary_cross_entropy_each_image_weighs_by_its_class() -> None:
    """By hand: the images' own losses, by the weights of their labels over the sum of these."""
    logits, labels = torch.randn(16, 6, generator=torch.Generator().manual_seed(0)), LABELS[40:56]
    weights = balanced_weights(LABELS, 6)
    made = training_loss(spec(loss="bce", class_weights="balanced"), logits, Batch(logits, labels), weights)
    hard = torch.nn.functional.one_hot(labels, 6).float()
    own = -(hard * logits.sigmoid().log() + (1 - hard) * (1 - logits.sigmoid()).log()).mean(1)
    torch.testing.assert_close(made, (own * weights[labels]).sum() / weights[labels].sum())


def test_a_step_weighs_by_the_images_that_it_trains_on() -> None:
    """One batch of all images: its loss, before the step, is torch's."""
    whole = resident(0, 64)
    split = Resident(whole.images, whole.labels % 2 * (whole.labels > 6), whole.mean, whole.std)
    torch.manual_seed(0)
    model = build(NetSpec(in_channels=1, depth=8, num_classes=2))
    losses = dict[str, float]()
    for name in ("none", "balanced"):
        asked = spec(batch_size=64, class_weights=name)
        step = Step(model, asked, split)
        step.begin(draw(asked, 64, (8, 8), 0), [1e-12])
        with torch.no_grad():
            logits = model(split.normalise(split.images))
        step.feed()
        step()
        losses[name] = step.read()[0]
        made = compute_class_weight("balanced", classes=np.array([0, 1]), y=split.labels.numpy())
        weight = torch.tensor(made, dtype=torch.float32) if name == "balanced" else None
        assert losses[name] == pytest.approx(cross_entropy(logits, split.labels, weight).item(), rel=2e-2)  # bfloat16
    assert losses["none"] != losses["balanced"]


def test_continued_training_is_bit_equal() -> None:
    given = TrialSpec(net=NET, train=spec(epochs=3, class_weights="balanced", label_smoothing=0.1, mixup=0.2))
    splits = resident(0, 96), resident(1000, 1032)
    whole = list(train(given, *splits))
    states = [epoch.state() for epoch in train(given, *splits)]
    rest = list(train(given, *splits, states[0]))
    assert [epoch.metrics["train/loss"] for epoch in rest] == [epoch.metrics["train/loss"] for epoch in whole[1:]]
    last = whole[-1].state().weights
    assert all(torch.equal(tensor, last[name]) for name, tensor in rest[-1].state().weights.items())


def test_another_word_is_refused() -> None:
    with pytest.raises(InputError, match=r"train.class_weights = 'balance' is unknown; did you mean 'balanced'\?"):
        TrialSpec.from_flat({"train.class_weights": "balance"})
