"""The size of the images as a choice of the space, and the networks that images of a size are for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from resnet import NetSpec, cost
from search.errors import InputError
from search.spec import LimitSpec, StudySpec, TrainSpec, TrialSpec, appraise, load

FOLDER = {"name": "mine", "data": "imagefolder:photos"}


def study(**given: Any) -> StudySpec:
    return StudySpec(**{**FOLDER, **given})


def test_images_are_prepared_at_the_largest_and_each_trial_has_its_size() -> None:
    asked = study(space={"net.depth": [18], "data.image_size": [96, 160, 128]})
    assert asked.data.image_size == 160
    space = asked.make_space((160, 160, 3), 2)
    space.check((160, 160))
    trials = [space.specify(chosen) for chosen in space.combinations(values=True)]
    assert [trial.train.sides((160, 160)) for trial in trials] == [(96, 96), (160, 160), (128, 128)]
    again = StudySpec(**yaml.safe_load(asked.to_yaml()))
    assert again == asked


@pytest.mark.parametrize(
    "written",
    [
        {"space": {"data": {"image_size": [64, 96]}}},
        {"space": {"data.image_size": {"choices": [64, 96], "when": {"net.depth": [18]}}, "net.depth": [18, 34]}},
        {"data": {"name": "imagefolder:photos", "seed": 0}, "space": {"data.image_size": [64, 96]}},
    ],
)
def test_ways_to_write_it(written: dict[str, Any]) -> None:
    asked = study(**written)
    assert (asked.data.name, asked.data.image_size) == ("imagefolder:photos", 96)
    assert "train.image_size" in asked.space


def test_a_size_is_fixed_or_searched(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {name: 'imagefolder:photos'}\nspace: {net.depth: [18], data.image_size: [96, 160]}\n")
    fixed = load(file, [("data.image_size", 64)])
    assert (fixed.data.image_size, list(fixed.space)) == (64, ["net.depth"])
    file.write_text("data: {name: 'imagefolder:photos', image_size: 64}\nspace: {net.depth: [18]}\n")
    searched = load(file, [("space.data.image_size", [96, 160])])
    assert (searched.data.image_size, searched.space["train.image_size"]) == (160, [96, 160])


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            {"data": {"name": "digits", "image_size": 9}, "space": {"data.image_size": [8]}},
            "is both fixed and in space; remove one of them",
        ),
        (
            {"space": {"data.image_size": {"low": 64, "high": 96}}},
            "is no list of sides in pixels; write [96, 128, 160]",
        ),
        ({"space": {"data.image_size": ["big"]}}, "is no list of sides in pixels; write [96, 128, 160]"),
        ({"space": {"data.image_size": [True]}}, "is no list of sides in pixels; write [96, 128, 160]"),
        ({"space": {"data.image_size": []}}, "is no list of sides in pixels; write [96, 128, 160]"),
        ({"space": {"data.image_size": [64, 5000]}}, "data.image_size = 5000 is too large; give at most 4,096"),
    ],
)
def test_a_wrong_choice_is_refused_in_a_sentence(written: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        study(**written)
    assert str(refused.value).endswith(sentence)


@pytest.mark.parametrize(
    ("space", "shape", "sentence"),
    [
        ({"train.image_size": [64]}, (32, 32, 3), "train.image_size = 64 is more than the 32 pixels of the images"),
        ({"train.image_size": [16]}, (32, 24, 3), "train.image_size = 16 needs square images; leave it out"),
        ({"train.image_size": [2, 32]}, (32, 32, 3), "image size 2x2"),
        ({"data.limit": [10]}, (32, 32, 3), "space.data.limit is not a field"),
    ],
)
def test_a_size_that_images_or_networks_do_not_allow(
    space: dict[str, Any], shape: tuple[int, int, int], sentence: str
) -> None:
    with pytest.raises(InputError) as refused:
        study(space=space).make_space(shape, 2).check(shape[:2])
    assert str(refused.value).startswith(sentence)


def test_costs_follow_the_size() -> None:
    net = NetSpec(family="imagenet", depth=18, num_classes=2)  # pyright: ignore[reportArgumentType]
    trial = TrialSpec(net=net, train=TrainSpec(image_size=96))
    found = appraise(trial, (160, 160), LimitSpec())
    assert found.macs == cost(net, 96).macs < cost(net, 160).macs
    assert appraise(TrialSpec(net=net), (160, 160), LimitSpec()).macs == cost(net, 160).macs


@pytest.mark.parametrize(
    ("given", "side", "family"),
    [
        ({}, 64, "cifar"),
        ({}, 65, "imagenet"),
        ({"net": {"family": "cifar"}}, 224, "cifar"),
        ({"space": {"net.family": ["cifar"]}}, 224, "cifar"),
    ],
)
def test_larger_images_are_for_the_family_of_imagenet(given: dict[str, Any], side: int, family: str) -> None:
    space = study(**given).make_space((side, side, 3), 2)
    assert [space.specify(chosen).net.family.value for chosen in space.combinations(values=True)] == [family]


def test_rows_that_are_compared_have_the_family_of_their_images_too() -> None:
    rows = [{"name": "a", "set": {"net.depth": 18}}, {"name": "b", "set": {"net.depth": 34, "train.image_size": 96}}]
    found = study(compare=rows).rows((128, 128, 3), 2)
    assert [row.trial.net.family.value for row in found] == ["imagenet", "imagenet"]
    assert [row.trial.train.sides((128, 128)) for row in found] == [(128, 128), (96, 96)]
