"""The search space: what may be written, what depends on what, how large it is, what is refused."""

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.errors import InputError
from search.spec import Space
from search.spec.space import CHECKED_COMBINATIONS, make

DATA = {"net.in_channels": 1, "net.num_classes": 10}
# more combinations than are built one by one, none of them wrong
MANY = {
    f"train.{name}": [k / 100 for k in range(1, 9)]
    for name in ("lr", "weight_decay", "warmup", "label_smoothing", "momentum")
}


def space(section: dict[str, Any], **fixed: Any) -> Space:
    return make(section, DATA | {path.replace("__", "."): value for path, value in fixed.items()})


def assignments(made: Space) -> set[tuple[Any, ...]]:
    """Every assignment of the searched paths, None where a path has no effect."""
    paths = sorted(d.path for d in made.dimensions)
    return {tuple(chosen.get(path) for path in paths) for chosen in made.combinations(values=True)}


@pytest.mark.parametrize(
    ("path", "entry", "distribution"),
    [
        ("net.depth", [8, 14, 20], CategoricalDistribution([8, 14, 20])),
        ("net.version", ["v1"], CategoricalDistribution(["v1"])),
        ("net.version", {"choices": ["v1", "v2"]}, CategoricalDistribution(["v1", "v2"])),
        ("train.flip", [True, False], CategoricalDistribution([True, False])),
        ("train.lr", [0.1, 0.2], CategoricalDistribution([0.1, 0.2])),
        ("train.lr", ["1e-3", "1e-2"], CategoricalDistribution([0.001, 0.01])),
        ("net.depth", ["8", "14"], CategoricalDistribution([8, 14])),
        ("train.lr", {"low": 0.1, "high": 1}, FloatDistribution(0.1, 1.0)),
        ("train.lr", {"low": "1e-3", "high": "1e-1", "log": True}, FloatDistribution(0.001, 0.1, log=True)),
        ("train.lr", {"low": 0.1, "high": 0.3, "step": 0.1}, FloatDistribution(0.1, 0.3, step=0.1)),
        ("net.depth", {"low": 8, "high": 20, "step": 6}, IntDistribution(8, 20, step=6)),
        ("train.batch_size", {"low": 16, "high": 256, "log": True}, IntDistribution(16, 256, log=True)),
        ("train.lr", {"low": 0.1, "high": 0.1}, FloatDistribution(0.1, 0.1)),
    ],
)
def test_what_may_be_written(path: str, entry: Any, distribution: object) -> None:
    (dimension,) = space({path: entry}).dimensions
    assert dimension.distribution == distribution
    assert dimension.when == {}


def test_size_by_hand() -> None:
    # 3 depths x (4 shortcuts, of which dropout has 2 rates and constant_scaling 3 scales: 1 + 1 + 2 + 3)
    made = space(
        {
            "net.depth": {"low": 8, "high": 20, "step": 6},
            "net.shortcut": ["identity", "none", "dropout", "constant_scaling"],
            "net.dropout": [0.1, 0.2],
            "net.shortcut_scale": [0.3, 0.5, 0.7],
        }
    )
    assert made.size() == 3 * 7
    assert made.size(limit=10) == 10
    assert len(assignments(made)) == 21
    made = space({"net.depth": [8, 14], "train.lr": {"low": 0.1, "high": 0.5}})
    assert made.size() == 2, "of the finite dimensions"
    stepped = space({"train.lr": {"low": 0.1, "high": 0.3, "step": 0.1}})
    assert stepped.size() == 3, "0.1, 0.2, 0.3 in spite of rounding"
    assert space({}).size() == 1


def test_implicit_conditions() -> None:
    gates = space({"net.shortcut": ["identity", "exclusive_gate", "shortcut_only_gate"], "net.gate_bias": [-6, -3]})
    assert gates.size() == 1 + 2 + 2
    strides = space({"net.unit": ["basic", "bottleneck"], "net.stride_on": ["conv1x1", "conv3x3"]}, net__depth=20)
    assert strides.size() == 1 + 2
    # the plain net and the net of 1x1 convolutions have no shortcut whose dimension changes otherwise
    changes = space({"net.shortcut": ["identity", "none", "conv1x1"], "net.downsample": ["zero_pad", "projection"]})
    assert changes.size() == 2 + 1 + 1


def test_explicit_conditions_over_several_levels_in_any_order() -> None:
    made = space(
        {
            "train.warmup": {"choices": [0.0, 0.1, 0.2], "when": {"train.nesterov": True}},
            "train.nesterov": {"choices": [True, False], "when": {"train.momentum": [0.9, 0.95]}},
            "train.momentum": [0.0, 0.9, 0.95],
        }
    )
    assert [d.path for d in made.dimensions] == ["train.momentum", "train.nesterov", "train.warmup"]
    assert made.size() == 1 + 2 * (3 + 1)
    momentum, nesterov, warmup = 0, 1, 2
    for chosen in assignments(made):
        assert (chosen[nesterov] is None) == (chosen[momentum] == 0)
        assert (chosen[warmup] is None) == (chosen[nesterov] is not True)


def test_condition_on_a_fixed_value_and_on_a_default() -> None:
    entry = {"choices": [0.1, 0.2], "when": {"train.schedule": "cosine"}}
    assert space({"train.warmup": entry}).size() == 2
    assert space({"train.warmup": entry}, train__schedule="cosine").size() == 2
    pads = {"choices": [8, 14], "when": {"net.downsample": "zero_pad"}}
    assert space({"train.crop_padding": pads}, net__unit="single").size() == 2
    with pytest.raises(InputError, match=r"space\.train\.crop_padding never has an effect"):
        space({"train.crop_padding": pads}, net__unit="bottleneck").check((8, 8))
    with pytest.raises(InputError, match=r"space\.train\.warmup never has an effect: it needs train\.schedule"):
        space({"train.warmup": entry}, train__schedule="steps").check((8, 8))


def test_condition_on_a_default_that_follows_from_what_is_searched() -> None:
    """ResNet-18 and 34 have basic units, 50 has bottlenecks: only there a stride can be on either convolution."""
    made = space({"net.stride_on": ["conv1x1", "conv3x3"], "net.depth": [18, 34, 50]}, net__family="imagenet")
    assert [d.path for d in made.dimensions] == ["net.depth", "net.stride_on"]
    assert made.size() == 1 + 1 + 2
    made.check((32, 32))


def test_explicit_and_implicit_condition_are_both_asked() -> None:
    entry = {"choices": [-6, -3], "when": {"net.shortcut": ["exclusive_gate", "identity"], "net.version": "v1"}}
    made = space(
        {
            "net.shortcut": ["identity", "exclusive_gate", "shortcut_only_gate"],
            "net.version": ["v1", "v2"],
            "net.gate_bias": entry,
        }
    )
    assert made.size() == 6 + 1  # two biases instead of one combination: exclusive_gate with v1


def test_suggestions_are_repeatable_and_keep_to_the_conditions() -> None:
    made = space(
        {
            "net.dropout": {"low": 0.1, "high": 0.5},
            "net.shortcut": ["identity", "dropout"],
            "train.lr": {"low": 0.01, "high": 0.5, "log": True},
            "train.batch_size": {"low": 16, "high": 64, "step": 16},
        },
        net__depth=8,
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        chosen = made.draw(lambda dimension: dimension.suggest(trial))  # noqa: B023 (called here and now)
        spec = made.specify(chosen)
        asked = {"net.shortcut", "train.lr", "train.batch_size"}
        asked |= {"net.dropout"} if trial.params["net.shortcut"] == "dropout" else set()
        assert set(trial.params) == asked
        assert {path: spec.flat()[path] for path in asked} == trial.params
        assert spec.net.depth == 8
        assert spec.net.num_classes == 10
    assert {t.params["net.shortcut"] for t in study.trials} == {"identity", "dropout"}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"net.depth": [20, 26], "net.unit": ["basic", "bottleneck"]}, r"^net depth 26 is not 9n\+2 for unit=bottleneck"),
    ({"net.depth": [8, 8.0]}, r"names a choice twice"),
    ({"net.depth": [None]}, r"^space\.net\.depth: None is no single value"),
    ({"train.lr": {"low": 0.1, "high": 0.2, "step": 0}}, r"step = 0 must be a number above 0"),
    ({"train.lr": {"low": True, "high": 2}}, r"^space\.train\.lr\.low = True is not a number"),
    ({"train.lr": {}}, r"^space\.train\.lr\.low = None is not a number; a range needs low and high$"),
]


@pytest.mark.parametrize(("section", "sentence"), REFUSED)
def test_refused(section: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        space(section).check((8, 8))


def test_images_that_are_too_small() -> None:
    with pytest.raises(InputError, match="image size 3x8 does not survive the strides"):
        space({"net.depth": [8]}).check((3, 8))
    space({"net.depth": [8]}).check((4, 4))


def test_large_space_is_checked_at_every_choice() -> None:
    assert CHECKED_COMBINATIONS < 8**5
    space(MANY).check((8, 8))
    with pytest.raises(InputError, match="depth 57"):
        space(MANY | {"net.depth": [8, 14, 57]}).check((8, 8))
    with pytest.raises(InputError, match=r"space\.net\.dropout never has an effect"):
        space(MANY | {"net.dropout": [0.1]}).check((8, 8))


def test_large_space_is_not_refused_for_a_value_outside_its_condition() -> None:
    """Depth 29 is right for a bottleneck, and asked for there alone."""
    section = {
        "net.unit": ["basic", "bottleneck"],
        "net.depth": {"choices": [29, 38], "when": {"net.unit": "bottleneck"}},
    }
    space(section).check((8, 8))
    space(MANY | section).check((8, 8))


@pytest.mark.parametrize(
    ("path", "entry", "words"),
    [
        ("net.depth", [8, 14], "8 | 14"),
        ("net.depth", {"low": 8, "high": 20, "step": 6}, "8 ... 20, step 6"),
        ("net.depth", {"choices": [8], "when": {"net.version": ["v1", "v2"]}}, "8  when net.version is v1 or v2"),
        ("train.lr", {"low": 0.020000001, "high": 1, "log": True}, "0.020000001 ... 1 (log)"),
    ],
)
def test_description(path: str, entry: Any, words: str) -> None:
    assert space({path: entry}).dimensions[-1].describe() == words


def test_a_trial_is_found_again_in_its_space() -> None:
    """A choice of -6 is -6.0 in the trial's flat view, for the bias is a float; True is no 1."""
    made = space({"net.shortcut": ["none", "exclusive_gate"], "net.gate_bias": [-6, 0], "train.flip": [True, False]})
    for chosen in made.combinations(values=True):
        searched = {path: value for path, value in chosen.items() if path in made.searched}
        assert made.parameters(made.specify(chosen).flat()) == searched
    assert made.parameters({"net.shortcut": "none", "train.flip": 1}) is None
    assert made.parameters({"net.shortcut": "exclusive_gate", "net.gate_bias": -5.0, "train.flip": True}) is None


def test_conditions_are_sorted() -> None:
    """Whatever the order of sets is in this process, for another must find the same space."""
    made = space(
        {"net.shortcut": ["exclusive_gate", "constant_scaling"], "net.gate_bias": [0], "net.downsample": ["conv"]}
    )
    several = [values for d in made.dimensions for values in d.when.values() if len(values) > 1]
    assert len(several) >= 2
    assert all(list(values) == sorted(values, key=str) for values in several)
