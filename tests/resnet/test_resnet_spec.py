"""NetSpec: what it refuses, what it holds equal, what it says of itself."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from resnet import Downsample, Family, NetSpec, Shortcut, StrideOn, Unit
from resnet.depths import valid_depths
from resnet.spec import needs
from tests.support.networks import STEP, specs

REFUSED = [
    ({"depth": 57}, "net depth 57 is not 6n+2 for unit=basic; the nearest valid depths are 56 and 62"),
    ({"depth": 3}, "net depth 3 is not 6n+2 for unit=basic; the smallest valid depth is 8"),
    ({"depth": 2}, "net depth 2 is not 6n+2 for unit=basic; the smallest valid depth is 8"),
    ({"depth": 6, "unit": "single"}, "net depth 6 is not 3n+2 for unit=single; the nearest valid depths are 5 and 8"),
    (
        {"family": "imagenet", "depth": 50, "unit": "basic"},
        "net depth 50 is not 18 or 34 for family=imagenet and unit=basic; the largest valid depth is 34",
    ),
    (
        {"family": "imagenet", "depth": 20, "unit": "bottleneck"},
        "net depth 20 is not 50 or 101 or 152 or 200 for family=imagenet and unit=bottleneck; "
        "the smallest valid depth is 50",
    ),
    (
        {"family": "imagenet", "unit": "single"},
        "net unit 'single' does not exist in family=imagenet; choose from basic, bottleneck",
    ),
    (
        {"family": "article", "depth": 20},
        "net depth 20 is not 6 for family=article and unit=basic; the largest valid depth is 6",
    ),
    (
        {"family": "article", "version": "bn_after_add"},
        "net version 'bn_after_add' does not exist in family=article; choose from v1, v2",
    ),
    (
        {"family": "article", "shortcut": "none"},
        "net shortcut 'none' does not exist in family=article; choose from identity",
    ),
    ({"family": "imagnet"}, "net family 'imagnet' is unknown; did you mean 'imagenet'?"),
    ({"depth": 60002}, "net depth 60002 is not valid; give at most 10000"),
    (
        {"depth": "deep"},
        "net depth 'deep' is no whole number; write one",
    ),
    ({"shortcut": "identty"}, "net shortcut 'identty' is unknown; did you mean 'identity'?"),
    ({"unit": "wide"}, "net unit 'wide' is unknown; choose from basic, bottleneck, single"),
    ({"downsample": None}, "net downsample None is unknown; choose from zero_pad, projection"),
    ({"detph": 20}, "net has no field 'detph'; did you mean 'depth'?"),
    ({"width": 0}, "net width 0 is not valid; give more than 0"),
    ({"width": 0.03}, "net width 0.03 leaves stage 1 without channels; choose more than 0.03125"),
    ({"width": float("nan")}, "net width nan is no finite number; write one"),
    ({"width": 65}, "net width 65 is not valid; give at most 64"),
    ({"dropout": 1.0}, "net dropout 1.0 is not valid; give less than 1"),
    ({"num_classes": 1}, "net num_classes 1 is not valid; give at least 2"),
    ({"in_channels": 0}, "net in_channels 0 is not valid; give at least 1"),
    (
        {"gate_bias": "n/a"},
        "net gate_bias 'n/a' is no number; write one",
    ),
]


@pytest.mark.parametrize(("fields", "sentence"), REFUSED, ids=[str(fields) for fields, _ in REFUSED])
def test_bad_value_is_refused_in_one_sentence(fields, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        NetSpec(**fields)
    assert str(caught.value) == sentence


def test_frozen_and_copies_are_checked():
    spec = NetSpec()
    with pytest.raises(ValidationError, match="frozen"):
        spec.depth = 32
    with pytest.raises(ValueError, match="57 is not 6n"):
        spec.model_copy(update={"depth": 57})
    assert spec.model_copy(update={"depth": 32}) == NetSpec(depth=32)


@pytest.mark.parametrize("unit", Unit)
@settings(deadline=None)
@given(depth=st.integers(-20, 1300))
def test_depth_is_valid_exactly_by_the_rule(unit, depth):
    valid = any(depth == STEP[unit] * n + 2 for n in range(1, 500))
    assert (depth in valid_depths(Family.CIFAR)[unit]) == valid
    if valid:
        assert [n * STEP[unit] + 2 for n in NetSpec(unit=unit, depth=depth).blocks] == [depth] * 3


@settings(deadline=None)
@given(spec=specs())
def test_out_and_back(spec):
    assert NetSpec.model_validate_json(spec.model_dump_json()) == spec
    assert NetSpec.model_validate({name: str(value) for name, value in spec.model_dump(mode="json").items()}) == spec


@settings(deadline=None)
@given(spec=specs(), scale=st.floats(-10, 10), rate=st.floats(0, 0.99), side=st.integers(1, 512))
def test_networks_that_differ_in_what_has_no_effect_are_equal(spec, scale, rate, side):
    others = {"shortcut_scale": scale, "residual_scale": scale, "gate_bias": scale, "dropout": rate, "image_size": side}
    others |= {"downsample": Downsample.PROJECTION, "stride_on": StrideOn.CONV3X3}
    without_effect = {name: value for name, value in others.items() if name in spec.inactive}
    assert spec.model_copy(update=without_effect) == spec
    assert hash(spec.model_copy(update=without_effect)) == hash(spec)
    for name in others.keys() - spec.inactive - {"image_size"}:
        assert getattr(spec.model_copy(update={name: others[name]}), name) == others[name]


ACTIVE = {  # 1603.05027, Sec. 3.1: what each kind of shortcut has
    Shortcut.IDENTITY: {"downsample"},
    Shortcut.NONE: set(),
    Shortcut.CONSTANT_SCALING: {"downsample", "shortcut_scale", "residual_scale"},
    Shortcut.EXCLUSIVE_GATE: {"downsample", "gate_bias"},
    Shortcut.SHORTCUT_ONLY_GATE: {"downsample", "gate_bias"},
    Shortcut.CONV1X1: set(),
    Shortcut.DROPOUT: {"downsample", "dropout"},
}


@pytest.mark.parametrize("shortcut", Shortcut)
@pytest.mark.parametrize("unit", Unit)
def test_inactive_fields(shortcut, unit):
    spec = NetSpec(shortcut=shortcut, unit=unit, depth=STEP[unit] * 3 + 2)
    conditional = set().union(*ACTIVE.values())
    expected = conditional - ACTIVE[shortcut] | ({"stride_on"} if unit is not Unit.BOTTLENECK else set())
    assert spec.inactive == expected | {"image_size"}
    asked = {name: needs(name) for name in conditional}
    assert {name for name, (other, kinds) in asked.items() if (other, shortcut in kinds) == ("shortcut", True)} == (
        ACTIVE[shortcut]
    )


def test_other_conditions():
    always = {"family", "depth", "unit", "version", "shortcut", "width", "in_channels", "num_classes"}
    assert {name for name in NetSpec.model_fields if needs(name) is None} == always
    assert needs("stride_on") == ("unit", {Unit.BOTTLENECK})
    assert needs("image_size") == ("family", {Family.ARTICLE})
    assert NetSpec(family="article", image_size=28).image_size == 28


def test_the_unit_follows_the_depth_in_imagenet_nets():
    """1512.03385, Table 1."""
    units = {depth: NetSpec(family="imagenet", depth=depth).unit.value for depth in (18, 34, 50, 101, 152, 200)}
    assert units == dict.fromkeys((18, 34), "basic") | dict.fromkeys((50, 101, 152, 200), "bottleneck")
    assert NetSpec(family="imagenet").depth == 18
    assert NetSpec(family="imagenet", depth=200).blocks == (3, 24, 36, 3)


def test_downsample_follows_the_unit_unless_given():
    assert NetSpec().downsample is Downsample.ZERO_PAD
    assert NetSpec(unit="single").downsample is Downsample.ZERO_PAD
    assert NetSpec(unit="bottleneck").downsample is Downsample.PROJECTION
    assert NetSpec(unit="bottleneck", downsample="zero_pad").downsample is Downsample.ZERO_PAD


def test_channels_are_rounded():
    assert NetSpec().channels == (16, 32, 64)
    assert NetSpec(width=10).channels == (160, 320, 640)  # WRN-10
    assert NetSpec(width=0.2).channels == (3, 6, 13)  # 3.2, 6.4, 12.8


@pytest.mark.parametrize(
    ("family", "sides", "sentence"),
    [
        ("cifar", (3, 32), "^image size 3x32 does not survive the strides of family=cifar; use images of at least 4x4"),
        ("cifar", (32, 3), "image size 32x3 .* at least 4x4 pixels$"),  # two strides of 2
        ("imagenet", (31, 64), "at least 32x32 pixels$"),
        ("article", (28, 28), "^image size 28x28 is not net image_size 32, .* net image_size 28$"),
    ],
)
def test_image_must_survive_the_strides(family, sides, sentence):
    with pytest.raises(ValueError, match=sentence):
        NetSpec(family=family).check_image(*sides)
    NetSpec(family=family, image_size=64).check_image(64, 64)
    NetSpec().check_image(4, 4)
