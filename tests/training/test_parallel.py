"""Two and three processes on cores against one that trains alone on the same batches."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resnet import NetSpec
from search.spec import TrainSpec, TrialSpec
from search.training import Group, Resident, device, train
from search.training.loop import State
from tests.support.sample_digits import resident
from tests.support.together import together

NET = {"depth": 8, "in_channels": 1, "width": 0.5}
TRAIN = {"epochs": 3, "batch_size": 33, "crop_padding": 1, "lr": 0.1}  # 33: parts of 17 and 16 images
CASES: dict[str, dict[str, Any]] = {
    "v1, averaged weights": {"train": {"ema": 0.9}},
    "v2, mixed": {"net": {"version": "v2"}, "train": {"mixup": 0.4, "cutmix": 1.0, "label_smoothing": 0.1}},
    "bn after add, weighted classes": {"net": {"version": "bn_after_add"}, "train": {"class_weights": "balanced"}},
    "bottleneck, AdamW, the head first": {
        "net": {"depth": 11, "unit": "bottleneck"},
        "train": {"optimizer": "adamw", "lr": 0.003, "freeze_epochs": 1, "layer_decay": 0.8, "loss": "bce"},
    },
}
# Of losses over three epochs in float64. Logits, and so the first gradient, are rounded to float32.
TOLERANCE = 1e-5


def spec(net: dict[str, Any], training: dict[str, Any]) -> TrialSpec:
    return TrialSpec(net=NetSpec(**NET | net), train=TrainSpec(**TRAIN | training))


def exact(first: int, last: int) -> Resident:
    split = resident(first, last)
    return replace(split, mean=split.mean.double(), std=split.std.double())


def trained(trial: TrialSpec, known: dict[str, Any] | None, group: Group | None) -> tuple[list[Any], dict[str, Any]]:
    """Metrics of each epoch and the state after the first; in float64."""
    torch.set_default_dtype(torch.float64)
    device.has_bf16 = lambda where: False  # whatever the processor has
    state = State(**known) if known else None
    metrics, states = [], []
    for epoch in train(trial, exact(0, 300), exact(1000, 1101), state, group=group):
        metrics.append({k: v for k, v in epoch.metrics.items() if not k.startswith("cost/")})
        states.append(asdict(epoch.state()))
    return [metrics, states[-1]["weights"]], states[0]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_as_one(case: str, tmp_path: Path) -> None:
    work = partial(trained, spec(**{"net": {}, "training": {}} | renamed(CASES[case])), None)
    (((alone, weights), _),) = together(tmp_path / "one", 1, work)
    ((first, ours), state), ((second, theirs), _) = together(tmp_path / "two", 2, work)
    assert first == second
    assert len(first) == len(alone) == 3
    for mine, single in zip(first, alone, strict=True):
        assert mine.keys() == single.keys()
        for name, value in single.items():
            assert mine[name] == pytest.approx(value, rel=TOLERANCE), name
    for name, tensor in weights.items():
        assert torch.equal(ours[name], theirs[name]), name
        assert torch.allclose(ours[name], tensor, rtol=1e-3, atol=1e-4), name
    ((rest, _), _), _ = together(tmp_path / "on", 2, partial(trained, work.args[0], state))
    assert rest == first[1:], "continued to the bit"


def renamed(case: dict[str, Any]) -> dict[str, Any]:
    return {"net": case.get("net", {}), "training": case.get("train", {})}


def test_three_processes_are_as_one(tmp_path: Path) -> None:
    work = partial(trained, spec({}, {"epochs": 1, "batch_size": 32}), None)
    (((alone, _), _),) = together(tmp_path / "one", 1, work)
    ((first, _), _), *_ = together(tmp_path / "three", 3, work)
    assert first[0] == pytest.approx(alone[0], rel=TOLERANCE)


def normalised(group: Group | None) -> dict[str, Tensor]:
    """Output, gradients and running statistics of a normalisation over 7 images of float64."""
    torch.manual_seed(0)
    images, upstream = torch.randn(7, 5, 4, 3).double() * 3 + 100, torch.randn(7, 5, 4, 3).double()
    model = nn.Sequential(nn.BatchNorm2d(5)).double()
    nn.init.uniform_(model[0].weight)
    mine = slice(0, 7)
    if group:
        group.normalise_together(model)
        mine = slice(*[(0, 3), (3, 7)][group.rank])
    x = images[mine].clone().requires_grad_()
    y = model(x)
    (y * upstream[mine]).sum().backward()
    of_weight, of_bias = model[0].weight.grad, model[0].bias.grad
    if group:
        group.add([of_weight, of_bias])
    return {"y": y.detach(), "x": x.grad, "weight": of_weight, "bias": of_bias} | dict(model.state_dict())


def test_shared_batch_normalisation_is_torchs_over_all_images(tmp_path: Path) -> None:
    (alone,) = together(tmp_path / "one", 1, normalised)
    first, second = together(tmp_path / "two", 2, normalised)
    for name, expected in alone.items():
        found = torch.cat([first[name], second[name]]) if name in ("y", "x") else first[name]
        assert torch.allclose(found.double(), expected.double(), rtol=1e-10, atol=1e-10), name


def test_dropout_differs_between_processes(tmp_path: Path) -> None:
    """Each draws for its own images; the network stays one."""
    work = partial(trained, spec({"shortcut": "dropout"}, {"epochs": 1}), None)
    ((first, weights), _), ((second, same), _) = together(tmp_path / "two", 2, work)
    assert first == second
    assert all(torch.equal(tensor, same[name]) for name, tensor in weights.items())
