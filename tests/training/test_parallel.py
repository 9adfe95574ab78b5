"""Two and three processes on cores against one that trains alone on the same batches."""

from collections.abc import Iterator
from contextlib import contextmanager
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
    "v2, mixed": {"net": {"version": "v2"}, "train": {"mixup": 0.4, "cutmix": 1.0, "label_smoothing": 0.1}},
    "bn after add, weighted classes": {"net": {"version": "bn_after_add"}, "train": {"class_weights": "balanced"}},
    "bottleneck, AdamW, the head first": {
        "net": {"depth": 11, "unit": "bottleneck"},
        "train": {"optimizer": "adamw", "lr": 0.003, "freeze_epochs": 1, "layer_decay": 0.8, "loss": "bce"},
    },
}
QUICK = "v2, mixed"
# Of losses over three epochs in float64. Logits, and so the first gradient, are rounded to float32.
TOLERANCE = 1e-5


def spec(net: dict[str, Any], training: dict[str, Any]) -> TrialSpec:
    return TrialSpec(net=NetSpec(**NET | net), train=TrainSpec(**TRAIN | training))


def exact(first: int, last: int) -> Resident:
    split = resident(first, last)
    return replace(split, mean=split.mean.double(), std=split.std.double())


@contextmanager
def in_float64() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "has_bf16", lambda where: False)  # whatever the processor has
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)


def trained(trial: TrialSpec, known: dict[str, Any] | None, group: Group | None) -> dict[str, Any]:
    """Metrics of each epoch, the last weights, and the state after the first epoch; in float64."""
    metrics, states = [], []
    with in_float64():
        for epoch in train(trial, exact(0, 300), exact(1000, 1101), State(**known) if known else None, group=group):
            metrics.append({k: v for k, v in epoch.metrics.items() if not k.startswith("cost/")})
            states.append(asdict(epoch.state()))
    return {"metrics": metrics, "weights": states[-1]["weights"], "state": states[0]}


@pytest.mark.parametrize(
    "case",
    [case if case == QUICK else pytest.param(case, marks=[pytest.mark.long, pytest.mark.nightly]) for case in CASES],
)
def test_two_processes_are_as_one(case: str, tmp_path: Path) -> None:
    trial = spec(CASES[case].get("net", {}), CASES[case].get("train", {}))
    alone = trained(trial, None, None)
    first, second = together(tmp_path / "two", 2, partial(trained, trial, None))
    assert first["metrics"] == second["metrics"]
    assert_alike(first["metrics"], alone["metrics"])
    for name, tensor in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        assert torch.allclose(first["weights"][name], tensor, rtol=1e-3, atol=1e-4), name


def assert_alike(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    assert len(ours) == len(theirs)
    for mine, expected in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.long
@pytest.mark.nightly
def test_three_processes_are_as_one_and_go_on_to_the_bit(tmp_path: Path) -> None:
    trial = spec({}, {"ema": 0.9, "batch_size": 32})
    first, *_ = together(tmp_path / "three", 3, partial(trained, trial, None))
    assert_alike(first["metrics"], trained(trial, None, None)["metrics"])
    rest, *_ = together(tmp_path / "on", 3, partial(trained, trial, first["state"]))
    assert rest["metrics"] == first["metrics"][1:]
    assert all(torch.equal(tensor, first["weights"][name]) for name, tensor in rest["weights"].items())


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
    alone = normalised(None)
    first, second = together(tmp_path / "two", 2, normalised)
    for name, expected in alone.items():
        found = torch.cat([first[name], second[name]]) if name in ("y", "x") else first[name]
        assert torch.allclose(found.double(), expected.double(), rtol=1e-10, atol=1e-10), name


def test_dropout_differs_between_processes(tmp_path: Path) -> None:
    """Each draws for its own images; the network stays one."""
    work = partial(trained, spec({"shortcut": "dropout"}, {"epochs": 1}), None)
    first, second = together(tmp_path / "two", 2, work)
    assert first["metrics"] == second["metrics"]
    assert all(torch.equal(tensor, second["weights"][name]) for name, tensor in first["weights"].items())
