"""A step's forward half on fake CUDA tensors: no card, no driver and no compiler, and any build of torch.

What mixes devices, reads a value back, or has a shape that depends on values, raises. The backward half needs a driver
that answers: test_card.py.
"""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.func import functional_call

from resnet import NetSpec, build
from search.spec import TrainSpec
from search.training import augment
from search.training.batches import Resident
from search.training.loss import training_loss
from tests.card.cases import AUGMENTATIONS, FAMILIES, UNITS

IMAGES = 64


def loss(net: dict[str, Any], fields: dict[str, Any]) -> torch.Tensor:
    spec = TrainSpec(**({"batch_size": 16} | fields))
    side = 64 if net.get("family") == "imagenet" else 32
    draws = {name: values[0] for name, values in augment.draw(spec, IMAGES, (side, side), 1).items()}
    model = build(NetSpec(**({"depth": 8} | net)))
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    with FakeTensorMode() as mode, torch.device("cuda", 0) as device:
        row, weights = (
            {name: mode.from_tensor(values).to(device) for name, values in named.items()} for named in (draws, state)
        )
        images, labels = torch.empty(IMAGES, side, side, 3, dtype=torch.uint8), torch.zeros(IMAGES, dtype=torch.int64)
        split = Resident(images, labels, torch.ones(3), torch.ones(3))
        made = augment.batch(split, spec, row)
        balance = torch.ones(model.spec.num_classes) if spec.class_weights == "balanced" else None
        assert made.images.is_contiguous(memory_format=torch.channels_last)
        return training_loss(spec, functional_call(model, weights, made.images), made, balance)


@pytest.mark.parametrize("fields", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
def test_every_augmentation_stays_on_the_device(fields: dict[str, Any]) -> None:
    assert loss({}, fields).device.type == "cuda"


@pytest.mark.parametrize("net", [*UNITS.values(), *FAMILIES.values()], ids=[*UNITS, *FAMILIES])
def test_every_network_stays_on_the_device(net: dict[str, Any]) -> None:
    assert loss(net, {}).device.type == "cuda"


def test_the_detector_detects() -> None:
    with FakeTensorMode():
        with pytest.raises(DataDependentOutputException):
            torch.ones(1, device="cuda").item()
        with pytest.raises(RuntimeError, match="device"):
            torch.ones(2, device="cuda") + torch.ones(2)
