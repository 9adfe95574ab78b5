"""What a study begins with: published networks by name, and values by dotted path."""

from typing import Any

import pytest

from search.errors import InputError
from search.optimize.samplers import starts
from search.spec.space import make

OF_DATA = {"net.in_channels": 3, "net.num_classes": 10, "net.image_size": 32}
SPACE: dict[str, Any] = {
    "net.depth": [8, 20, 56, 110],
    "net.version": ["v1", "v2"],
    "net.shortcut": ["identity", "dropout"],
    "net.dropout": {"low": 0.1, "high": 0.4},
    "train.lr": {"low": 0.2, "high": 0.5, "log": True},
    "train.batch_size": [32, 64],
    "train.weight_decay": {"low": 0.0001, "high": 0.001, "step": 0.0003},
}


def begun(*given: Any, section: dict[str, Any] | None = None, **fixed: Any) -> tuple[dict[str, Any], ...]:
    space = make(section or SPACE, OF_DATA | {path.replace("__", "."): value for path, value in fixed.items()})
    return starts(given, space)


def test_published_networks_in_their_order() -> None:
    """Trained by the defaults (lr 0.1, batches of 128, weight decay 1e-4) where the space has them, else near them."""
    found = begun("preact_resnet110", "resnet20")
    network = {"net.shortcut": "identity"} | OF_DATA
    training = {"train.lr": 0.2, "train.batch_size": 32, "train.weight_decay": 0.0001}
    assert found == (
        {"net.depth": 110, "net.version": "v2"} | network | training,
        {"net.depth": 20, "net.version": "v1"} | network | training,
    )


def test_values_by_path() -> None:
    (found,) = begun({"net.depth": 56, "net.shortcut": "dropout", "train.lr": 0.3, "train.weight_decay": 0.0007})
    assert found["net.depth"] == 56
    assert found["train.lr"] == 0.3
    assert found["train.weight_decay"] == 0.0007
    assert found["net.dropout"] == 0.4, "the default of 0.5 is beyond the range"
    assert found["net.version"] == "v1", "the default"


def test_what_is_not_searched_may_be_named_as_it_is() -> None:
    """Fixed, or by default (momentum 0.9)."""
    section = {"net.depth": [8, 20]}
    (found,) = begun({"net.depth": 20, "train.momentum": 0.9, "train.lr": 0.05}, section=section, train__lr=0.05)
    assert found == {"net.depth": 20, "train.lr": 0.05} | OF_DATA
    (named,) = begun("preact_resnet20", section=section, net__version="v2")
    assert named == {"net.depth": 20, "net.version": "v2"} | OF_DATA


def test_no_start() -> None:
    assert begun() == ()


@pytest.mark.parametrize(
    ("entry", "fixed", "sentence"),
    [
        ("resnet21", {}, "start: network 'resnet21' is unknown; "),
        (
            "resnet32",
            {},
            "start: resnet32 needs net.depth = 32, but space.net.depth is 8 | 20 | 56 | 110; widen it, or leave the "
            "start out",
        ),
        (
            "resnet164",
            {},
            "start: resnet164 needs net.unit = bottleneck, but the study has basic; search net.unit, or leave it out",
        ),
        (
            {"train.momentum": 0.8},
            {},
            "start: {'train.momentum': 0.8} needs train.momentum = 0.8, but the study has 0.9; search train.momentum, "
            "or leave it out",
        ),
        (
            {"train.epochs": 5},
            {"train__epochs": 3},
            "start: {'train.epochs': 5} needs train.epochs = 5, but the study has 3; search train.epochs, or leave it "
            "out",
        ),
        ({"net.deep": 8}, {}, "start: {'net.deep': 8}: net.deep is not a field; did you mean 'net.depth'?"),
        (
            {"train.lr": 0.1},
            {},
            "start: {'train.lr': 0.1} needs train.lr = 0.1, but space.train.lr is 0.2 ... 0.5 (log); widen it, or "
            "leave the start out",
        ),
        (
            {"net.dropout": 0.2},  # without the shortcut that it belongs to
            {},
            "start: {'net.dropout': 0.2} needs net.dropout = 0.2, but space.net.dropout is 0.1 ... 0.4  when "
            "net.shortcut is dropout; widen it, or leave the start out",
        ),
    ],
)
def test_what_the_space_does_not_hold(entry: Any, fixed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        begun(entry, **fixed)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)
