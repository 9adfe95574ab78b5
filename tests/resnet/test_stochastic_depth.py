"""Stochastic depth against torchvision's and the paper's equations."""

from typing import Any

import pytest
import torch
from torchvision.ops import stochastic_depth

from resnet import NetSpec, ResNet, build
from resnet.net import StochasticDepth, drop_branches
from search.errors import InputError
from search.spec import TrainSpec, TrialSpec
from search.training import train
from tests.support.sample_digits import resident


def network(probability: float, **fields: Any) -> ResNet:
    torch.manual_seed(0)
    model = build(NetSpec(**({"depth": 20} | fields)))
    if probability:
        drop_branches(model, probability)
    return model


@pytest.mark.parametrize("probability", [0.3, 0.9, 0.0])
def test_it_is_torchvisions(probability: float) -> None:
    x = torch.randn(50, 3, 4, 5)
    torch.manual_seed(1)
    mine = StochasticDepth(probability)(x)
    torch.manual_seed(1)
    theirs = stochastic_depth(x, probability, "row")
    assert torch.equal(mine, theirs)
    assert torch.equal(StochasticDepth(probability).eval()(x), x)


def test_the_probability_grows_with_the_unit() -> None:
    """Equation 4: the unit l of L survives with 1 - l / L x p; 9 units of ResNet-20."""
    dropped = [1 - m.survival for m in network(0.5).modules() if isinstance(m, StochasticDepth)]
    assert dropped == pytest.approx([0.5 * number / 9 for number in range(1, 10)])


@pytest.mark.parametrize(
    "fields", [{}, {"version": "v2"}, {"shortcut": "exclusive_gate"}, {"family": "article", "depth": 6}]
)
def test_the_network_stays_as_it_is(fields: dict[str, Any]) -> None:
    plain, model = network(0, **fields), network(0.5, **fields)
    assert list(model.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.eval()(x), plain.eval()(x))


def test_an_image_goes_on_without_the_branch_or_with_more_of_it() -> None:
    """Pre-activation units of a stage: y is x, or x + F(x) / survival, image by image, in the share expected."""
    unit = network(0.5, version="v2").layers()[3][-1]
    x = torch.randn(400, 16, 4, 4)
    with torch.no_grad():
        y = unit(x)
        survival = unit.F[-1].survival
        branch = unit.F[:-1](x)
    skipped = (y == x).flatten(1).all(1)
    torch.testing.assert_close(y[~skipped], (x + branch / survival)[~skipped])
    assert survival == pytest.approx(1 - 0.5 * 3 / 9)
    assert abs(int(skipped.sum()) - 400 * (1 - survival)) < 4 * (400 * survival * (1 - survival)) ** 0.5


def test_it_changes_training_by_the_seed() -> None:
    def losses(**fields: float) -> list[float]:
        recipe: dict[str, Any] = {"epochs": 2, "batch_size": 32} | fields
        given = TrialSpec(net=NetSpec(depth=8, in_channels=1), train=TrainSpec(**recipe))
        return [epoch.metrics["train/loss"] for epoch in train(given, resident(0, 96), None)]

    assert losses(stochastic_depth=0.5) == losses(stochastic_depth=0.5)
    assert losses(stochastic_depth=0.5) != losses()


def test_without_shortcuts_it_is_refused() -> None:
    with pytest.raises(InputError) as refusal:
        TrialSpec.from_flat({"net.shortcut": "none", "train.stochastic_depth": 0.1})
    assert str(refusal.value) == (
        "train.stochastic_depth = 0.1 drops branches, without which nothing is left of a network with net.shortcut = "
        "none; set it to 0, or give it under space with when: {net.shortcut: [identity]}"
    )
    TrialSpec.from_flat({"net.shortcut": "none"})


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("stochastic_depth", 1.0, "train.stochastic_depth = 1.0 is too large; give less than 1"),
        ("stochastic_depth", -0.1, "train.stochastic_depth = -0.1 is too small; give at least 0"),
        ("random_erasing", 1.1, "train.random_erasing = 1.1 is too large; give at most 1"),
        ("cutmix", -1, "train.cutmix = -1 is too small; give at least 0"),
        ("loss", "bse", "train.loss = 'bse' is unknown; did you mean 'bce'?"),
        ("trivial_augment", "wide", "train.trivial_augment = 'wide'"),
    ],
)
def test_a_bad_value_is_one_sentence(field: str, value: object, sentence: str) -> None:
    with pytest.raises(InputError) as refusal:
        TrialSpec.from_flat({f"train.{field}": value})
    assert str(refusal.value).startswith(sentence)


def test_images_of_other_channels_have_no_colours() -> None:
    with pytest.raises(InputError, match="for images of 1 or 3 channels, and these have 4; set it to false"):
        TrialSpec.from_flat({"net.in_channels": 4, "train.trivial_augment": True})
