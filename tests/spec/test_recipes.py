"""Published recipes against what their papers and torchvision print."""

from typing import Any

import pytest
from torchvision.models import ResNet50_Weights

from resnet import named
from search.errors import InputError
from search.report.published import source
from search.spec import Recipe, StudySpec, TrialSpec

OF_ALL = {  # arXiv:2110.00476, Table 2, but for what its rows differ in
    "train.loss": "bce",
    "train.schedule": "cosine",
    "train.crop": "resized",
    "train.flip": True,
    "train.cutmix": 1.0,
    "train.random_erasing": 0.0,
    "train.ema": 0.0,
    "train.optimizer": "adamw",  # the nearest to LAMB
    "train.lr": 0.001,  # AdamW's own
    "train.trivial_augment": True,  # the nearest to RandAugment
}
A1 = {"label_smoothing": 0.1, "weight_decay": 0.01, "mixup": 0.2, "stochastic_depth": 0.05}
A2 = {"label_smoothing": 0.0, "weight_decay": 0.02, "mixup": 0.1, "stochastic_depth": 0.05}
A3 = {"label_smoothing": 0.0, "weight_decay": 0.02, "mixup": 0.1, "stochastic_depth": 0.0}


@pytest.mark.parametrize(
    ("name", "own", "epochs", "accuracy"),
    [("rsb_a1", A1, 600, 80.4), ("rsb_a2", A2, 300, 79.8), ("rsb_a3", A3, 100, 78.1)],
)
def test_resnet_strikes_back(name: str, own: dict[str, float], epochs: int, accuracy: float) -> None:
    recipe = Recipe.of(name)
    values = recipe.values(128)
    expected: dict[str, Any] = OF_ALL | {f"train.{field}": value for field, value in own.items()}
    assert {path: values[path] for path in expected} == expected
    assert values["train.warmup"] == pytest.approx(5 / epochs, abs=5e-5), "5 epochs"
    assert recipe.values(2048) == values, "AdamW keeps its rate"
    published = recipe.figure.train
    assert (published.epochs, published.batch_size, published.start) == (epochs, 2048, "scratch")
    assert recipe.figure.error == pytest.approx(100 - accuracy)
    assert recipe.figure.nets == (named("resnet50", num_classes=1000),)
    assert str(recipe).startswith(f"resnet50 at {100 - accuracy:.2f} % on imagenet (arXiv:2110.00476 ")
    assert "here AdamW at its own rate in place of LAMB" in str(recipe)
    assert "RandAugment" in source(recipe.figure.beside(values, "photos")), "the report says so too"


def test_torchvisions_second_recipe() -> None:
    """128 images on each of 8 GPUs, --lr 0.5 --weight-decay 0.00002 --epochs 600 and so on."""
    recipe = Recipe.of("torchvision_v2")
    accuracy = ResNet50_Weights.IMAGENET1K_V2.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert recipe.figure.error == pytest.approx(100 - accuracy)
    expected = {
        "train.optimizer": "sgd",
        "train.lr": 0.5,
        "train.momentum": 0.9,
        "train.nesterov": False,
        "train.weight_decay": 2e-5,
        "train.loss": "cross_entropy",
        "train.label_smoothing": 0.1,
        "train.trivial_augment": True,
        "train.random_erasing": 0.1,
        "train.mixup": 0.2,
        "train.cutmix": 1.0,
        "train.stochastic_depth": 0.0,
    }
    values = recipe.values(1024)
    assert {path: values[path] for path in expected} == expected
    assert recipe.values(128) == values | {"train.lr": 0.0625}, "the rate follows the batch"


@pytest.mark.parametrize("name", Recipe.names())
def test_the_study_says_how_long_on_how_many_and_from_where(name: str) -> None:
    values = Recipe.of(name).values(64)
    assert not {"train.epochs", "train.batch_size", "train.seed", "train.start"} & values.keys()
    trial = TrialSpec.from_flat(values | {"train.batch_size": 64})
    assert {path: value for path, value in trial.flat().items() if path in values} == values, "all have an effect"


def rows(*given: dict[str, Any], **train: Any) -> Any:
    study = StudySpec(name="mine", compare=given, train={"epochs": 3} | train)
    return study.rows((32, 32, 3), 10)


def test_a_row_by_its_recipe() -> None:
    """Over what the study fixes, below what the row sets, beside the recipe's figure where it names no other."""
    plain, whole, other = rows(
        {"name": "plain"},
        {"name": "whole", "recipe": "torchvision_v2"},
        {
            "name": "other",
            "recipe": "torchvision_v2",
            "set": {"train.batch_size": 256, "train.mixup": 0.0},
            "published": "1603.05027/table1/identity",
        },
        batch_size=512,
        weight_decay=0.5,
    )
    assert plain.trial.train.weight_decay == 0.5
    assert (plain.published, whole.published) == ((), ("torchvision/resnet50/imagenet1k_v2",))
    assert (whole.trial.train.lr, whole.trial.train.weight_decay, whole.trial.train.epochs) == (0.25, 2e-5, 3)
    assert whole.trial.train.batch_size == 512
    assert (other.trial.train.lr, other.trial.train.mixup, other.trial.train.cutmix) == (0.125, 0, 1)
    assert other.published == ("1603.05027/table1/identity",)


def test_what_is_no_recipe() -> None:
    with pytest.raises(InputError) as refused:
        rows({"name": "a", "recipe": "rsb_a33"})
    assert str(refused.value).startswith("compare: row 'a': recipe = 'rsb_a33' is no published recipe; did you mean")
    with pytest.raises(InputError, match="recipe 'a1' is unknown; "):
        Recipe.of("a1")
    with pytest.raises(InputError, match=r"compare: row 'a': train.stochastic_depth = 0.05 drops branches"):
        rows({"name": "a", "recipe": "rsb_a1", "set": {"net.shortcut": "none"}})
    with pytest.raises(InputError, match=r"compare: row 'a': train.batch_size = 'many' is no whole number"):
        rows({"name": "a", "recipe": "rsb_a1", "set": {"train.batch_size": "many"}})
