"""Training against a plain PyTorch loop, and interrupted against uninterrupted."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from resnet import NetSpec, build
from search.spec import TrainSpec, TrialSpec
from search.training import Checkpoint, latest, train
from search.training.augment import batch, draw
from search.training.batches import Resident, resized
from search.training.checkpoint import write
from search.training.loop import _seed, evaluate
from tests.support.sample_digits import resident

NET = {"depth": 8, "in_channels": 1}
SMALL = {"epochs": 4, "batch_size": 32, "crop_padding": 1, "flip": True, "lr": 0.05}

MIXED = {"mixup": 0.2, "cutmix": 1.0, "stochastic_depth": 0.5}


@pytest.fixture(autouse=True)
def _one_thread_in_float32(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("search.training.device.has_bf16", lambda device: False)  # what is compared with is in float32
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spec(net: dict[str, Any] | None = None, **fields: Any) -> TrialSpec:
    return TrialSpec(net=NetSpec(**(NET | (net or {}))), train=TrainSpec(**(SMALL | fields)))


def pretrained(spec: TrialSpec) -> dict[str, torch.Tensor]:
    """Weights of its network, and running statistics that no drawn one has."""
    torch.manual_seed(77)
    weights = build(spec.net).state_dict()
    for name, tensor in weights.items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    return weights


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("net", "fields"),
    [
        ({}, {}),
        ({}, {"momentum": 0.0}),
        ({}, {"nesterov": False, "label_smoothing": 0.1}),
        ({"shortcut": "dropout", "dropout": 0.3}, {}),
        ({}, {"optimizer": "adamw", "weight_decay": 0.05}),
        ({}, {"layer_decay": 0.5}),
        ({"version": "v2"}, {"optimizer": "adamw", "layer_decay": 0.75}),
    ],
)
def test_equals_a_plain_loop_to_the_bit(net: dict[str, Any], fields: dict[str, Any]) -> None:
    """The reference loop has its own steps, rates by the formula and errors; only batches and seeds are ours."""
    given = spec(net, **fields)
    training, validation = resident(0, 170), resident(1000, 1100)
    mine = list(train(given, training, validation))[:2]

    torch.manual_seed(_seed(given.train.seed, 0))
    model = build(given.net).to(memory_format=torch.channels_last)
    layers = "stem", "stages.0", "stages.1", "stages.2", ("end", "fc")  # ResNet-8 has one unit a stage
    distance = dict(zip(layers, (4, 3, 2, 1, 0), strict=True))
    parts = [
        {"params": [p for name, p in model.named_parameters() if name.startswith(layer)], "lr": 1.0} for layer in layers
    ]
    shared: dict[str, Any] = {"weight_decay": given.train.weight_decay, "fused": True}
    if given.train.optimizer == "adamw":
        optimiser: torch.optim.Optimizer = torch.optim.AdamW(parts, **shared)
    else:
        nesterov = given.train.nesterov and given.train.momentum > 0
        optimiser = torch.optim.SGD(parts, momentum=given.train.momentum, nesterov=nesterov, **shared)
    for epoch in mine:
        losses, right = [], 0
        draws = draw(given.train, 170, (8, 8), _seed(given.train.seed, epoch.number))
        torch.manual_seed(_seed(given.train.seed, epoch.number))  # the masks of dropout, other ones in each epoch
        for step in range(len(draws["order"])):
            made = batch(training, given.train, {name: rows[step] for name, rows in draws.items()})
            labels = made.labels
            done = (epoch.number - 1) * 5 + step  # of 4 x 5 steps
            rate = 0.05 * 0.5 * (1 + math.cos(math.pi * done / 20))
            for layer, group in zip(layers, optimiser.param_groups, strict=True):
                own = rate * given.train.layer_decay ** distance[layer]
                group["lr"] = torch.tensor(own).item()  # as float32, in which the device holds it
            logits = model(made.images)
            loss = torch.nn.CrossEntropyLoss(label_smoothing=given.train.label_smoothing)(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            right += int((logits.argmax(1) == labels).sum())
        assert len(losses) == 5
        assert epoch.metrics["train/loss"] == sum(losses) / 5
        assert epoch.metrics["train/error"] == 100 * (160 - right) / 160


@pytest.mark.parametrize(
    ("net", "fields"),
    [
        ({}, {}),
        ({}, {"momentum": 0.0}),
        ({"shortcut": "dropout", "dropout": 0.3}, {"nesterov": False}),
        ({"shortcut": "exclusive_gate", "version": "v2", "downsample": "projection"}, {"schedule": "steps"}),
        ({}, {"cutout": 3, "mixup": 0.4, "ema": 0.9, "schedule": "one_cycle"}),
        ({}, {"start": "w.safetensors", "freeze_epochs": 2}),
        ({"version": "v2"}, {"start": "w.safetensors", "freeze_epochs": 1, "ema": 0.9, "layer_decay": 0.8}),
        ({}, {"start": "w.safetensors", "freeze_epochs": 2, "optimizer": "adamw", "layer_decay": 0.7}),
        ({}, {"optimizer": "adamw"}),
        ({}, {"random_erasing": 0.5, "trivial_augment": True, "loss": "bce", "label_smoothing": 0.1} | MIXED),
    ],
)
def test_interrupted_is_uninterrupted_to_the_bit(net: dict[str, Any], fields: dict[str, Any], tmp_path: Path) -> None:
    given = spec(net, epochs=3, **fields)
    training, validation = resident(0, 170), resident(1000, 1100)
    start = pretrained(given) if given.train.start != "scratch" else None
    whole = [(epoch, epoch.state()) for epoch in train(given, training, validation, start=start)]
    for stop in (1, 2):
        for epoch in train(given, training, validation, start=start):
            if epoch.number == stop:
                write(tmp_path, Checkpoint(epoch.state(), []))
                break
        torch.manual_seed(12345)  # another process has drawn other numbers
        found = latest(tmp_path)
        assert found is not None
        rest = [(epoch, epoch.state()) for epoch in train(given, training, validation, found.state)]
        assert [epoch.number for epoch, _ in rest] == list(range(stop + 1, 4))
        for (epoch, state), (expected, expected_state) in zip(rest, whole[stop:], strict=True):
            timeless = {name for name in expected.metrics if not name.startswith("cost/")}
            assert {n: epoch.metrics[n] for n in timeless} == {n: expected.metrics[n] for n in timeless}
            assert same_tensors(state.weights, expected_state.weights)
            assert same_tensors(state.momentum, expected_state.momentum)
            assert same_tensors(state.average, expected_state.average)
            assert bool(state.average) == (given.train.ema > 0)
            assert bool(state.momentum) == (given.train.momentum > 0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_the_head_trains_while_the_rest_is_frozen(optimizer: str) -> None:
    """The head equals a linear model that torch trains on the features of the network as it was loaded."""
    fields = {"optimizer": optimizer, "lr": 0.01, "schedule": "constant", "crop_padding": 0, "flip": False}
    given = spec(start="w.safetensors", freeze_epochs=2, epochs=3, **fields)
    training, start = resident(0, 160), pretrained(given)
    first, second, third = (epoch.state() for epoch in train(given, training, resident(1000, 1032), start=start))
    head = {"fc.weight", "fc.bias"}
    for state in (first, second):
        assert {name for name, tensor in state.weights.items() if not torch.equal(tensor, start[name])} == head
    moved = {name for name, tensor in third.weights.items() if not torch.equal(tensor, second.weights[name])}
    assert moved == third.weights.keys()

    net = build(given.net).eval()
    net.load_state_dict(start)
    kind: Any = torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD
    shared = {} if optimizer == "adamw" else {"momentum": 0.9, "nesterov": True}
    optimiser = kind(net.fc.parameters(), lr=0.01, weight_decay=given.train.weight_decay, **shared)
    for number in (1, 2):
        draws = draw(given.train, 160, (8, 8), _seed(0, number))
        for step in range(5):
            made = batch(training, given.train, {name: rows[step] for name, rows in draws.items()})
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(made.images), made.labels).backward()
            optimiser.step()
    torch.testing.assert_close(second.weights["fc.weight"], net.fc.weight.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_captured_step_trains_as_an_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an epoch that is frozen, and in the next one, for which the step is captured again."""
    fields = {"freeze_epochs": 1, "optimizer": "adamw", "layer_decay": 0.5, "lr": 0.001}
    given = spec(start="w.safetensors", epochs=2, **fields)
    one = resident(0, 170)
    training = replace(one, **{name: getattr(one, name).cuda() for name in ("images", "labels", "mean", "std")})

    def states() -> list[dict[str, torch.Tensor]]:
        return [epoch.state().weights for epoch in train(given, training, None, start=pretrained(given))]

    captured = states()
    monkeypatch.setattr("search.training.step.WARM", 10**9)
    for mine, eager in zip(captured, states(), strict=True):
        torch.testing.assert_close(mine, eager)


def test_a_start_is_loaded_before_the_first_step() -> None:
    """At rate 0 nothing but the statistics moves."""
    given = spec(start="w.safetensors", lr=1e-50, weight_decay=0.0, epochs=1)
    weights = pretrained(given)
    (epoch,) = train(given, resident(0, 64), resident(1000, 1032), start=weights)
    state = epoch.state().weights
    kept = {name for name in weights if torch.equal(state[name], weights[name])}
    assert kept == {name for name in weights if "running" not in name and "batches" not in name}
    with pytest.raises(ValueError, match="of another network"):
        next(train(spec({"depth": 14}), resident(0, 64), None, start=weights))


def test_seed_draws_weights_order_and_augmentation() -> None:
    training, validation = resident(0, 96), resident(1000, 1032)

    def losses(seed: int) -> list[float]:
        return [e.metrics["train/loss"] for e in train(spec(epochs=2, seed=seed), training, validation)]

    assert losses(1) == losses(1)
    assert not set(losses(1)) & set(losses(2))


def test_divergence_ends_the_trial() -> None:
    """Weight decay 1 at learning rate 100 multiplies every weight by -99 in each step."""
    given = spec(lr=100.0, weight_decay=1.0, schedule="constant", epochs=8)
    epochs = list(train(given, resident(0, 320), resident(1000, 1064)))
    assert epochs[-1].diverged
    assert len(epochs) < 8
    assert not any(epoch.diverged for epoch in epochs[:-1])
    last = epochs[-1].metrics
    assert not (math.isfinite(last["train/loss"]) and math.isfinite(last["val/loss"]))


@pytest.mark.parametrize(
    "fields", [{"cutout": 2}, {"crop_padding": 0, "random_erasing": 0.5}, {"mixup": 0.2, "cutmix": 1.0}]
)
def test_smaller_images_train_as_if_they_had_been_prepared_so(fields: dict[str, Any]) -> None:
    """Digits, made 6 pixels wide before the training, or by it."""

    def made_smaller(split: Resident) -> Resident:
        return replace(split, images=resized(split.images, (6, 6)))

    training, validation = resident(0, 320), resident(1000, 1100)
    *_, mine = train(spec(image_size=6, **fields), training, validation)
    *_, theirs = train(spec(**fields), made_smaller(training), made_smaller(validation))
    assert same_tensors(mine.state().weights, theirs.state().weights)
    for name in ("train/loss", "train/error", "val/loss", "val/error"):
        assert mine.metrics[name] == theirs.metrics[name]


def test_resized_crops_have_the_size_of_the_trial() -> None:
    """Boxes are drawn in the images as they are prepared, so that two sizes see the same parts of them."""
    split = resident(0, 64)
    small, whole = (spec(crop="resized", image_size=size).train for size in (5, 0))
    draws = draw(small, 64, (8, 8), 3)
    assert torch.equal(draws["boxes"], draw(whole, 64, (8, 8), 3)["boxes"])
    made = batch(split, small, {name: values[0] for name, values in draws.items()})
    assert made.images.shape == (32, 1, 5, 5)


def test_evaluation_against_sklearn_and_torch() -> None:
    """600 images: more than one batch, the last one incomplete."""
    split = resident(0, 600)
    torch.manual_seed(0)
    model = build(NetSpec(**NET))
    model(split.normalise(split.images))  # running statistics that are not those of this batch alone
    found = evaluate(model, split)
    assert not model.training
    with torch.no_grad():
        logits = model(split.normalise(split.images))
    told, loss = logits.argmax(1), torch.nn.functional.cross_entropy(logits, split.labels).item()
    assert found.metrics == {
        "loss": pytest.approx(loss, rel=1e-6),
        "error": pytest.approx(100 * (1 - accuracy_score(split.labels, told)), abs=1e-9),
        "balanced_error": pytest.approx(100 * (1 - balanced_accuracy_score(split.labels, told)), abs=1e-9),
    }
    assert 0 < found.metrics["error"] < 100
    assert np.array_equal(found.given, told)
    np.testing.assert_allclose(found.probability, logits.softmax(1).max(1).values, rtol=1e-5)


def test_weights_of_one_epoch_are_kept_when_the_next_is_trained() -> None:
    epochs = train(spec(epochs=2), resident(0, 64), resident(1000, 1032))
    first = next(epochs).state()
    copy = first.weights["fc.weight"].clone()
    second = next(epochs).state()
    assert torch.equal(first.weights["fc.weight"], copy)
    assert not torch.equal(second.weights["fc.weight"], copy)


def test_learns_digits() -> None:
    given = spec(epochs=6, batch_size=32, lr=0.1, flip=False)
    epochs = list(train(given, resident(0, 1000), resident(1000, 1797)))
    assert epochs[-1].metrics["val/error"] < 10
    assert epochs[-1].metrics["train/loss"] < epochs[0].metrics["train/loss"] / 3
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5, 6]
    assert {name.partition("/")[0] for name in epochs[0].metrics} == {"train", "val", "cost"}, "none of a card"


def test_averaged_weights_are_validated() -> None:
    """One step: the average is decay x first weights + the rest x the weights after it, running statistics too."""
    training = resident(0, 64)
    (epoch,) = train(spec(epochs=1, batch_size=64, ema=0.75), training, resident(1000, 1100))
    torch.manual_seed(_seed(0, 0))
    first = build(NetSpec(**NET)).state_dict()
    state = epoch.state()
    for name, before in first.items():
        after = state.weights[name]
        expected = 0.75 * before + 0.25 * after if before.is_floating_point() else after  # a counter
        torch.testing.assert_close(state.average[name], expected)
    model = build(NetSpec(**NET))
    model.load_state_dict(state.average)
    assert epoch.metrics["val/loss"] == pytest.approx(evaluate(model, resident(1000, 1100)).loss, rel=1e-5)


def test_streamed_is_resident_to_the_bit() -> None:
    training, validation = resident(0, 170), resident(1000, 1100)
    ours, theirs = (
        [(epoch.metrics["train/loss"], epoch.metrics["val/loss"], epoch.state().weights) for epoch in epochs]
        for epochs in (
            train(spec(epochs=2), training, validation),
            train(spec(epochs=2), replace(training, streamed=True), replace(validation, streamed=True)),
        )
    )
    for (*figures, weights), (*expected, expected_weights) in zip(theirs, ours, strict=True):
        assert figures == expected
        assert same_tensors(weights, expected_weights)
