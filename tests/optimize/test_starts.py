"""What a study begins with: published networks by name, values by dotted path, and the best of another study."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.search.curves import Table
from search.errors import InputError
from search.optimize import FormerBest, best_of_former, tried_first
from search.optimize.portfolio import KNOWN, greedy
from search.records import Start, TrialRecord, Trials, TrialState
from search.spec import Former, LimitSpec, StudySpec, TrialSpec, appraise
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


def asked(section: Mapping[str, Any], start: Sequence[Any] | str, trials: int = 24, **more: Any) -> list[Start]:
    """What a study of CIFAR-10's images begins with; `more`: fixed values (`train__lr`), and keys of a study."""
    fixed = {path: value for path, value in more.items() if "__" in path}
    keys = {key: value for key, value in more.items() if key not in fixed} | {"search": {"trials": trials}}
    for path, value in fixed.items():
        where, _, field = path.partition("__")
        keys.setdefault(where, {})[field] = value
    spec = StudySpec(name="new", space=dict(section), start=start, **keys)
    space = spec.make_space((32, 32, 3), 10)
    return list(tried_first(spec, space, lambda trial: appraise(trial, (32, 32), spec.limits)))


def begun(*given: Any, section: dict[str, Any] | None = None, **fixed: Any) -> tuple[dict[str, Any], ...]:
    return tuple(start.chosen for start in asked(section or SPACE, given, **fixed))


def test_published_networks_in_their_order() -> None:
    """Trained by the defaults (lr 0.1, batches of 128, weight decay 1e-4) where the space has them, else near them."""
    found = begun("preact_resnet110", "resnet20")
    network = {"net.shortcut": "identity"} | OF_DATA
    training = {"train.lr": 0.2, "train.batch_size": 64, "train.weight_decay": 0.0001}
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


RSB_A3: dict[str, Any] = {
    "train.optimizer": ["sgd", "adamw"],
    "train.loss": ["cross_entropy", "bce"],
    "train.crop": ["padded", "resized"],
    "train.trivial_augment": [False, True],
    "train.mixup": [0.0, 0.1, 0.2],
    "train.cutmix": [0.0, 1.0],
}


def test_a_published_recipe() -> None:
    """What is searched is as the recipe has it; of SGD the rate is scaled to the nearest batch of the space."""
    section = RSB_A3 | {"train.lr": {"low": 0.001, "high": 0.1}, "net.depth": [8, 14]}
    (start,) = asked(section, ["rsb_a3"], train__weight_decay=0.02, train__warmup=0.05)
    chosen = {path: start.chosen[path] for path in RSB_A3}
    assert chosen == {path: values[-1] for path, values in RSB_A3.items()} | {"train.mixup": 0.1}
    assert (start.chosen["train.lr"], start.source) == (0.001, "rsb_a3")
    fixed = {"label_smoothing": 0.1, "random_erasing": 0.1, "mixup": 0.2, "cutmix": 1.0, "weight_decay": 2e-5}
    fixed |= {"warmup": 0.0083, "nesterov": False, "trivial_augment": True, "crop": "resized"}
    train = {f"train__{name}": value for name, value in fixed.items()}
    section = {"train.batch_size": [64, 128], "train.lr": {"low": 0.01, "high": 1.0, "log": True}}
    (found,) = begun("torchvision_v2", section=section, **train)
    assert (found["train.batch_size"], found["train.lr"]) == (128, 0.0625)
    with pytest.raises(InputError, match=r"torchvision_v2 needs train.lr = 0.0625, but space.train.lr is 0.1 ... 1; "):
        begun("torchvision_v2", section={"train.lr": {"low": 0.1, "high": 1.0}}, **train)


def test_all_that_a_recipe_needs_is_named_at_once() -> None:
    with pytest.raises(InputError) as refused:
        begun("rsb_a3", section=RSB_A3)
    assert str(refused.value) == (
        "start: rsb_a3 needs train.lr = 0.001, train.weight_decay = 0.02, train.warmup = 0.05, but the study has 0.1, "
        "0.0001, 0.0; search or set these, or leave it out"
    )


@pytest.mark.parametrize(
    ("entry", "fixed", "sentence"),
    [
        ("resnet21", {}, "start: 'resnet21' is neither a published network nor a recipe; did you mean 'resnet"),
        ("rsb_a4", {}, "start: 'rsb_a4' is neither a published network nor a recipe; did you mean 'rsb_a"),
        ("resnet32", {}, "start: resnet32 needs net.depth = 32, but space.net.depth is 8 | 20 | 56 | 110; widen it, "),
        (
            "resnet164",
            {},
            "start: resnet164 needs net.unit = bottleneck, net.downsample = projection, but the study has basic, "
            "zero_pad; search or set these, or leave it out",
        ),
        (
            {"train.epochs": 5},
            {"train__epochs": 3},
            "start: {'train.epochs': 5} needs train.epochs = 5, but the study has 3; search train.epochs, or leave it "
            "out",
        ),
        ({"net.deep": 8}, {}, "start: {'net.deep': 8}: net.deep is not a field; did you mean 'net.depth'?"),
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


SMALLER_DATA: dict[str, Any] = {"net.in_channels": 1, "net.num_classes": 10, "net.image_size": 8}
SMALL: dict[str, Any] = {
    "net.depth": [8, 14, 20],
    "net.version": ["v1", "v2"],
    "train.lr": {"low": 0.01, "high": 0.5, "log": True},
}


def trial(number: int, error: float, state: TrialState = TrialState.COMPLETE, **chosen: Any) -> TrialRecord:
    flat = {path.replace("__", "."): value for path, value in chosen.items()}
    params = TrialSpec.from_flat({**SMALLER_DATA, "train.epochs": 2, **flat}).flat()
    return TrialRecord(number, state, dict(params), 2, {1: error + 10, 2: error})


TRIALS = Trials(
    [
        trial(0, 30.0, net__depth=8, train__lr=0.1),
        trial(1, 5.0, TrialState.PRUNED, net__depth=14),
        trial(2, 10.0, net__depth=20, net__version="v2", train__lr=0.3),
        trial(3, 20.0, net__depth=14, train__lr=0.02),
        replace(trial(4, 1.0), state=TrialState.FAILED),
    ]
)


def of_former(
    best: int = 5,
    space: Mapping[str, Any] = SMALL,
    fixed: Mapping[str, Any] = {},
    limits: LimitSpec = LimitSpec(),  # noqa: B008
    trials: Trials = TRIALS,
) -> tuple[list[tuple[Any, ...]], str]:
    """Depth, version, learning rate and epochs of each start, and the sentence."""
    made = make(space, {**SMALLER_DATA, **fixed})
    found = best_of_former(Former(study="old", best=best), trials, made, lambda spec: appraise(spec, (8, 8), limits))
    paths = ("net.depth", "net.version", "train.lr", "train.epochs")
    return [tuple(made.specify(start).flat()[path] for path in paths) for start in found.starts], str(found)


def test_the_best_complete_trials_with_the_training_of_the_new_study() -> None:
    found, told = of_former(best=2, fixed={"train.epochs": 40})
    assert found == [(20, "v2", 0.3, 40), (14, "v1", 0.02, 40)]
    assert told == "2 configurations of study 'old', its best, tried first"
    assert [depth for depth, *_ in of_former()[0]] == [20, 14, 8], "all that there are"


@pytest.mark.parametrize(
    ("changes", "depths"),
    [
        ({"space": SMALL | {"net.depth": [8, 14]}}, [14, 8]),
        ({"space": SMALL | {"train.lr": {"low": 0.01, "high": 0.2}}}, [14, 8]),
        # depth 20 has 6n + 2 layers with n = 3 and 0.27 M parameters (arXiv:1512.03385, Table 6); 8 and 14 have fewer
        ({"limits": LimitSpec(params=250_000)}, [14, 8]),
    ],
)
def test_what_the_new_space_does_not_hold_is_left_out_and_told(changes: dict[str, Any], depths: list[int]) -> None:
    found, told = of_former(best=2, **changes)
    assert [depth for depth, *_ in found] == depths
    assert told.endswith("; 1 better one left out, beyond the space or its limits")


def test_what_had_no_effect_there_is_at_its_default() -> None:
    """Without momentum there is no Nesterov's; its default is true. `crop_padding`, 4 by default, was not searched."""
    space = make({"train.nesterov": [False, True], "train.crop_padding": [2, 4]}, SMALLER_DATA)
    without = Trials([trial(0, 9.0, train__momentum=0.0)])
    found = best_of_former(Former(study="old"), without, space, lambda spec: appraise(spec, (8, 8), LimitSpec()))
    assert found.starts == ({**SMALLER_DATA, "train.nesterov": True, "train.crop_padding": 4},)


def test_configurations_that_become_the_same_count_once() -> None:
    found, _ = of_former(best=2, space={"net.version": ["v1", "v2"]}, fixed={"net.depth": 8, "train.lr": 0.1})
    assert found == [(8, "v2", 0.1, 12), (8, "v1", 0.1, 12)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trials": Trials(TRIALS[1:2])}, r"study 'old' has no complete trial; run it to its end"),
        ({"space": {"net.depth": [26]}}, r"has 3 complete trials, and none within this space and its limits; widen"),
    ],
)
def test_a_study_that_leaves_nothing_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        of_former(**changes)


WIDE: dict[str, Any] = {
    "net.depth": [20, 32, 44, 56, 110],
    "net.version": ["v1", "relu_only_preact", "v2"],
    "net.shortcut": ["identity", "conv1x1", "none"],
    "train.lr": {"low": 0.02, "high": 0.5, "log": True},
}


@pytest.mark.parametrize(("trials", "count"), [(2, 0), (3, 1), (12, 4), (24, 8), (1000, 8)])
def test_auto_is_eight_but_at_most_a_third_of_the_trials(trials: int, count: int) -> None:
    found = asked(WIDE, "auto", trials)
    assert len({repr(sorted(start.chosen.items())) for start in found}) == len(found) == count
    assert [start.source for start in found] == ["the papers' recipe", *["good on other data"] * 7][:count]


def test_auto_is_what_a_study_begins_with() -> None:
    assert StudySpec(name="new").start == ("auto",)
    assert asked(WIDE, []) == []
    rows = [{"name": "a"}, {"name": "b", "set": {"net.depth": 14}}]
    assert StudySpec(name="new", compare=rows).start == (), "what is compared is given"


def test_the_recipe_is_the_papers() -> None:
    """The full pre-activation unit with identity shortcuts, learning rate 0.1, weight decay 1e-4 (1603.05027)."""
    recipe = asked(WIDE, "auto")[0].chosen
    assert (recipe["net.version"], recipe["net.shortcut"], recipe["train.lr"]) == ("v2", "identity", 0.1)


def test_what_is_known_keeps_its_place_between_the_shallowest_and_the_deepest() -> None:
    """Of 8, 14 and 20 layers, in batches of 32: the rate grows as the batch does (1706.02677, section 2.1)."""
    known = json.loads(KNOWN.read_text())
    depths, rates = {8: 20, 14: 56, 20: 110}, {c["train.lr"] * 4: c["net.depth"] for c in known["configurations"]}
    for start in asked(WIDE, "auto")[1:]:
        rate = start.chosen["train.lr"]
        if 0.02 < rate < 0.5:
            assert depths[next(d for r, d in rates.items() if r == pytest.approx(rate))] == start.chosen["net.depth"]


def test_auto_stays_within_the_limits() -> None:
    """A plain 20-layer network has 0.27 M parameters, one of 32 layers 0.46 M (1512.03385, Table 6)."""
    found = asked(WIDE, "auto", limits={"params": 300_000})
    assert {start.chosen["net.depth"] for start in found} == {20}


def test_a_space_without_what_is_known_begins_with_the_recipe_alone() -> None:
    (only,) = asked({"net.width": [0.5, 1.0, 2.0]}, "auto")
    assert only.chosen["net.width"] == 1.0


def test_each_of_a_portfolio_lowers_the_mean_of_the_lowest_the_most() -> None:
    losses = np.random.default_rng(0).random((12, 5))
    order = greedy(losses, 6)
    for place in range(1, 7):
        means = {row: np.min(losses[[*order[: place - 1], row]], axis=0).mean() for row in range(12)}
        assert means[order[place - 1]] == min(means.values())


def test_several_studies_take_turns() -> None:
    one, other = ({"net.depth": depth, **SMALLER_DATA} for depth in (8, 14))
    found = [FormerBest("one", (one, other), 0), FormerBest("other", (other,), 0)]
    spec = StudySpec(name="new", space={"net.depth": [8, 14]}, start=[{"study": "one"}, {"study": "other"}])
    begun = tried_first(spec, spec.make_space((8, 8, 1), 10), lambda trial: appraise(trial, (8, 8), spec.limits), found)
    assert [(start.source, start.chosen["net.depth"]) for start in begun] == [
        ("study one", 8),
        ("study other", 14),
        ("study one", 14),
    ]


def test_what_is_known_is_what_the_table_of_learning_curves_says() -> None:
    known, table = json.loads(KNOWN.read_text()), Table.read()
    assert known["configurations"] == [dict(one) for one in table.configurations]
    assert known["errors"].keys() == table.tasks.keys()
    for name, task in table.tasks.items():
        for error, curve in zip(known["errors"][name], table.tasks[name].errors, strict=True):
            assert error == (curve[-1] if len(curve) == task.epochs else None)
