"""What a network costs and may cost, in numbers worked out by hand."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from search.spec import Appraisal, LimitSpec, TrialSpec, appraise


def trial(**changes: Any) -> TrialSpec:
    """The basic net of depth 8 for images of one channel, ten classes; batches of 128."""
    given = {"net.in_channels": 1, "net.num_classes": 10, "net.depth": 8}
    return TrialSpec.from_flat(given | {path.replace("__", "."): value for path, value in changes.items()})


# Convolutions of 1*16, 2 of 16*16, 16*32, 32*32, 32*64, 64*64; normalisations of 3*16, 2*32, 2*64; the classifier.
PARAMS = 9 * (16 + 512 + 512 + 1024 + 2048 + 4096) + 2 * (48 + 64 + 128) + 650
# Of an image of 8 x 8: 64 places in the first stage, 16 in the second, 4 in the third.
MACS = 9 * (64 * (16 + 512) + 16 * (512 + 1024) + 4 * (2048 + 4096)) + 640


def test_costs_by_hand() -> None:
    found = appraise(trial(), (8, 8), LimitSpec())
    assert (found.params, found.macs) == (PARAMS, MACS) == (75_002, 747_136)
    assert found.excess == {}
    assert found.reason is None
    twice = appraise(trial(train__batch_size=256), (8, 8), LimitSpec())
    assert twice.activation_bytes == 2 * found.activation_bytes, "of a batch, not of an image"
    # inputs of 7 convolutions and of the classifier must be kept at least: float32, 128 images
    assert found.activation_bytes >= 128 * 4 * (64 * (1 + 3 * 16) + 16 * (2 * 32) + 4 * 64 + 64)


def test_the_limit_itself_is_allowed_and_one_less_is_not() -> None:
    memory = appraise(trial(), (8, 8), LimitSpec()).activation_bytes
    for name, value in (("params", PARAMS), ("macs", MACS), ("activation_memory", memory)):
        at = appraise(trial(), (8, 8), LimitSpec.model_validate({name: value}))
        assert (at.reason, at.excess) == (None, {name: 0.0})
        above = appraise(trial(), (8, 8), LimitSpec.model_validate({name: value - 1}))
        assert above.reason == f"{name} {value:,} above the limit of {value - 1:,}"
        assert above.excess == {name: pytest.approx(math.log(value / (value - 1)))}


def test_every_limit_that_is_exceeded_is_named() -> None:
    found = appraise(trial(), (8, 8), LimitSpec(params=100, macs=10**9, activation_memory=1))
    assert found.reason is not None
    assert found.reason.startswith("params 75,002 above the limit of 100; activation_memory ")
    assert found.excess["macs"] == pytest.approx(math.log(MACS / 10**9))
    assert found.excess["params"] == pytest.approx(math.log(750.02))


@pytest.mark.parametrize(
    ("depth", "shortcut", "reaches"),
    [
        (110, "identity", True),
        (110, "constant_scaling", False),  # 0.5^54: less than a float32 resolves; 1603.05027, table 1: it fails
        (8, "constant_scaling", True),  # 0.5^3
    ],
)
def test_the_signal_is_a_limit_when_asked_for(depth: int, shortcut: str, reaches: bool) -> None:
    spec = trial(net__depth=depth, net__shortcut=shortcut, net__version="v2")
    assert appraise(spec, (32, 32), LimitSpec()).reason is None
    found: Appraisal = appraise(spec, (32, 32), LimitSpec(signal=True))
    assert found.excess == {"signal": -1.0 if reaches else 1.0}
    assert (found.reason is None) == reaches
    if found.reason:
        assert found.reason.startswith("the gradient cannot reach the first unit: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500k", 500_000),
        ("1.7M", 1_700_000),
        ("200 M", 200_000_000),
        ("8G", 8_000_000_000),
        ("8Gi", 8 * 2**30),
        ("8 GiB", 8 * 2**30),
        ("1.5T", 1_500_000_000_000),
        ("2Ki", 2048),
        ("1e6", 1_000_000),
        (300_000, 300_000),
    ],
)
def test_quantities(text: Any, value: int) -> None:
    assert LimitSpec(params=text).params == value


@pytest.mark.parametrize("text", ["8g", "many", "1,000", "-5", "1M5", "Ki", "0.1", 0, -3, True, [5]])
def test_what_is_no_quantity(text: Any) -> None:
    with pytest.raises(ValidationError, match=r"limits\.params|params\n"):
        LimitSpec(params=text)
