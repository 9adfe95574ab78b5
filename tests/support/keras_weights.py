"""Weights of the article's two networks, from the Keras models that its code builds."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnet.net import ResNet
from resnet.residual import Residual


class _Slot(NamedTuple):
    """Where one array of Keras goes."""

    tensor: Tensor  # a view of our weights with the axes in Keras' order: what is written to it is written to them
    shape: tuple[int, ...]  # Keras' own; the classifier's rows are height, width and channel in one


def load_keras(model: ResNet, weights: Sequence[NDArray[Any]]) -> None:
    """Copy weights and moving statistics, as `get_weights()` of the article's Keras model gives them, into `model`.

    Keras has convolutions as (height, width, in, out) and the classifier's rows in the order height, width, channel;
    torch has (out, in, height, width) and channel, height, width. `num_batches_tracked`, which Keras lacks, stays.

    Evaluation gives Keras' numbers, and so does training but for the moving variance: torch feeds it the unbiased
    variance of the batch, as Keras 2 did when the article was written; Keras 3 feeds it the biased one, (m - 1) / m of
    it for m = batch x height x width.
    """
    slots = [slot for layer in _layers(model) for slot in _slots(layer, model.spec.image_size)]
    for array, slot in zip(weights, slots, strict=True):
        assert array.shape == slot.shape
        slot.tensor.copy_(torch.tensor(array).reshape(slot.tensor.shape))


def _layers(model: ResNet) -> Iterator[nn.Module]:
    """The layers with weights as Keras sorts them: by the longest way to the output, of equals h before F."""
    yield model.stem[0]
    for unit in model.stages.modules():
        if isinstance(unit, Residual):
            *others, last = (layer for layer in unit.F.children() if any(True for _ in layer.parameters()))
            yield from (*others, unit.h, last)
    yield model.fc


def _slots(layer: nn.Module, image_size: int) -> Iterator[_Slot]:
    """The arrays of one layer in Keras' order; none of an identity."""
    state: dict[str, Tensor] = layer.state_dict()
    match layer:
        case nn.Conv2d():
            kernel = state["weight"].permute(2, 3, 1, 0)
            yield _Slot(kernel, kernel.shape)
            yield _Slot(state["bias"], state["bias"].shape)
        case nn.BatchNorm2d():
            for name in ("weight", "bias", "running_mean", "running_var"):  # gamma, beta, moving mean and variance
                yield _Slot(state[name], state[name].shape)
        case nn.Linear():
            maps = state["weight"].view(layer.out_features, -1, image_size, image_size)
            yield _Slot(maps.permute(2, 3, 1, 0), (layer.in_features, layer.out_features))
            yield _Slot(state["bias"], state["bias"].shape)
        case _:
            return
