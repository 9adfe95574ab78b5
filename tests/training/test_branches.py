"""Trainings that go on together in one process, each against itself alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from resnet import NetSpec, Shortcut
from search.spec import TrainSpec, TrialSpec
from search.training import Epoch, train, train_together
from search.training.loop import Start, State
from tests.support.sample_digits import resident

DIVERGES = {"lr": 100.0, "weight_decay": 1.0, "schedule": "constant"}  # every step multiplies the weights by -99

Ended = tuple[dict[str, float], bool, State]


def spec(net: dict[str, Any], seed: int, **fields: Any) -> TrialSpec:
    small: dict[str, Any] = {"epochs": 3, "batch_size": 16, "crop_padding": 1, "lr": 0.05, "seed": seed}
    return TrialSpec(net=NetSpec(**{"depth": 8, "in_channels": 1} | net), train=TrainSpec(**small | fields))


def ended(epoch: Epoch) -> Ended:
    timeless = {name: value for name, value in epoch.metrics.items() if not name.startswith("cost/")}
    return timeless, epoch.diverged, epoch.state()


def alone(given: TrialSpec, start: Start = None) -> list[Ended]:
    return [ended(epoch) for epoch in train(given, resident(0, 70), resident(1000, 1040), start)]


def together(trainings: list[tuple[TrialSpec, Start]]) -> list[list[Ended]]:
    found: list[list[Ended]] = [[] for _ in trainings]
    for epochs in train_together(trainings, resident(0, 70), resident(1000, 1040)):
        for epoch in epochs:
            found[epoch.training].append(ended(epoch))
    return found


def assert_equal(mine: list[Ended], theirs: list[Ended]) -> None:
    assert len(mine) == len(theirs)
    for (metrics, diverged, state), (expected, expected_diverged, expected_state) in zip(mine, theirs, strict=True):
        assert repr((metrics, diverged, state.epoch)) == repr((expected, expected_diverged, expected_state.epoch))
        for kind in ("weights", "momentum", "average"):
            one, other = getattr(state, kind), getattr(expected_state, kind)
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name].nan_to_num(), other[name].nan_to_num()) for name in one)


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({"shortcut": shortcut.value}, {}) for shortcut in Shortcut),
    ({}, {"ema": 0.9}),
    ({}, {"mixup": 0.4, "cutmix": 1.0, "class_weights": "balanced"}),
    ({"shortcut": "dropout"}, {"stochastic_depth": 0.5, "ema": 0.9, "optimizer": "adamw"}),
    ({}, {"random_erasing": 0.5, "trivial_augment": True}),
]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("net", "fields"), FIELDS, ids=str)
def test_trainings_together_are_each_alone_to_the_bit(net: dict[str, Any], fields: dict[str, Any], count: int) -> None:
    specs = [spec(net, seed, **fields) for seed in range(count)]
    found = together([(each, None) for each in specs])
    assert len({mine[-1][0]["train/loss"] for mine in found}) == count, "each has its own seed"
    for each, mine in zip(specs, found, strict=True):
        assert_equal(mine, alone(each))


def test_rates_and_what_is_frozen_may_differ() -> None:
    pieces = {"start": "w.safetensors", "freeze_epochs": 2}, {"lr": 0.2, "ema": 0.5}, {"optimizer": "adamw", "lr": 0.01}
    specs = [spec({}, 0, **fields) for fields in pieces]
    starts: list[Start] = [alone(spec({}, 7))[-1][2].weights, None, None]
    found = together(list(zip(specs, starts, strict=True)))
    for each, start, mine in zip(specs, starts, found, strict=True):
        assert_equal(mine, alone(each, start))


@pytest.mark.parametrize("stops", [(1, 1, 1), (0, 2, 1)])
def test_they_go_on_from_their_states(stops: tuple[int, ...]) -> None:
    """Those that have trained for more epochs wait for the others."""
    specs = [spec({"shortcut": "dropout"}, seed, ema=0.9) for seed in range(3)]
    whole = [alone(each) for each in specs]
    starts: list[Start] = [known[stop - 1][2] if stop else None for known, stop in zip(whole, stops, strict=True)]
    numbers = [
        (epoch.training, epoch.number)
        for epochs in train_together(list(zip(specs, starts, strict=True)), resident(0, 70), None)
        for epoch in epochs
    ]
    assert sorted(numbers) == [(each, number) for each, stop in enumerate(stops) for number in range(stop + 1, 4)]
    assert [number for _, number in numbers] == sorted(number for _, number in numbers)
    found = together(list(zip(specs, starts, strict=True)))
    for mine, known, stop in zip(found, whole, stops, strict=True):
        assert_equal(mine, known[stop:])


def test_one_that_diverges_leaves_the_others() -> None:
    pieces: tuple[dict[str, Any], ...] = {}, DIVERGES, {"lr": 0.1}
    specs = [spec({"shortcut": "dropout"}, 0, epochs=6, **fields) for fields in pieces]
    found = together([(each, None) for each in specs])
    assert [mine[-1][1] for mine in found] == [False, True, False]
    assert len(found[1]) < 6 == len(found[0]) == len(found[2])
    for each, mine in zip(specs, found, strict=True):
        assert_equal(mine, alone(each))


def test_it_ends_when_all_have_diverged() -> None:
    specs = [spec({}, seed, epochs=8, **DIVERGES) for seed in range(2)]
    assert all(mine[-1][1] and len(mine) < 8 for mine in together([(each, None) for each in specs]))


def test_images_that_are_streamed() -> None:
    specs = [spec({}, seed) for seed in range(2)]
    streamed = replace(resident(0, 70), streamed=True)
    found = [
        [ended(epoch) for epoch in epochs] for epochs in train_together([(s, None) for s in specs], streamed, None)
    ]
    for mine, theirs in zip(zip(*found, strict=True), together([(each, None) for each in specs]), strict=True):
        for (metrics, _, state), (expected, _, expected_state) in zip(mine, theirs, strict=True):
            assert metrics.items() <= expected.items()
            assert all(torch.equal(state.weights[name], expected_state.weights[name]) for name in state.weights)


@pytest.mark.parametrize("fields", [{"epochs": 4}, {"batch_size": 32}])
def test_those_of_other_lengths_are_refused(fields: dict[str, Any]) -> None:
    trainings = [(spec({}, 0), None), (spec({}, 1, **fields), None)]
    with pytest.raises(ValueError, match="cannot be trained together"):
        next(train_together(trainings, resident(0, 70), None))
