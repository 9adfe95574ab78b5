"""Another training's weights as a start: under our names or torchvision's, for other images and other classes."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from resnet.net import ResNet, assemble
from resnet.spec import NetSpec
from resnet.torchvision_weights import to_torchvision

STEM = ("stem.0.weight", "conv1.weight")  # of the first convolution: our name, and torchvision's
HEAD = ("fc.weight", "fc.bias")
Shapes = Mapping[str, Sequence[int]]


def load_pretrained(model: ResNet, weights: Mapping[str, Tensor]) -> None:
    """Copy weights and running statistics into `model`, of its dtype, on its device.

    The first convolution is adapted to the channels of the images. The classifier stays as it is where it is not among
    the `weights`, or is for another number of classes. Raises ValueError, and leaves `model` as it was, where they are
    of a network of other layers.
    """
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    plan = blueprint(given)
    ours = next((names for names in _namings(model) if blueprint(_shapes(names)) == plan), None)
    if ours is None:
        raise ValueError(f"the weights are of another network: {misfit(model.spec, given)}")
    head = all(given.get(name) == tuple(ours[name].shape) for name in HEAD)
    for name, tensor in ours.items():
        if name in STEM:
            tensor.copy_(adapt_channels(weights[name], tensor.shape[1]))
        elif name in weights and (head or name not in HEAD):  # files older than torch 0.4.1 have no counts of batches
            tensor.copy_(weights[name])


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution (n_out, n_in, k, k) for images of other channels, with the same answer where all are equal.

    For one channel its input channels are summed; for more they are repeated in turn and scaled by n_in / channels: as
    timm's `adapt_input_conv` does (huggingface/pytorch-image-models, timm/models/_manipulate.py).
    """
    n_in = weight.shape[1]
    if channels == n_in:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, [k % n_in for k in range(channels)]] * (n_in / channels)


def blueprint(shapes: Shapes) -> str:
    """Names the layers of a network by names and shapes of its weights, whatever its images and classes: a SHA-256."""
    layers = sorted((name, _open(name, shape)) for name, shape in shapes.items() if _of_layers(name))
    return hashlib.sha256(json.dumps(layers).encode()).hexdigest()


@lru_cache(maxsize=4096)
def blueprints(spec: NetSpec) -> frozenset[str]:
    """`blueprint` of the weights that a network can start from: under our names, and torchvision's where it has it."""
    return frozenset(blueprint(_shapes(names)) for names in _namings(_described(spec)))


def misfit(spec: NetSpec, shapes: Shapes) -> str | None:
    """The first difference between a network and weights of these shapes, in words; None where it can start there."""
    if blueprint(shapes) in blueprints(spec):
        return None
    alike = max(_namings(_described(spec)), key=lambda names: len(names.keys() & shapes.keys()))
    for name, shape in _shapes(alike).items():
        if not _of_layers(name):
            continue
        if name not in shapes:
            return f"they have no {name!r}"
        if _open(name, shape) != _open(name, shapes[name]):
            return f"{name!r} has shape {tuple(shapes[name])}, in the network it is {tuple(shape)}"
    return f"the network has no {next(name for name in shapes if _of_layers(name) and name not in alike)!r}"


def _described(spec: NetSpec) -> ResNet:
    with torch.device("meta"):
        return assemble(spec)


def _namings(model: ResNet) -> Iterator[Mapping[str, Tensor]]:
    """The model's own tensors under our names, and under torchvision's where it has such a network."""
    yield model.state_dict()
    try:
        yield to_torchvision(model)
    except ValueError:
        return


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _of_layers(name: str) -> bool:
    return name not in HEAD and not name.endswith(".num_batches_tracked")


def _open(name: str, shape: Sequence[int]) -> list[int]:
    """A shape, without the channels of the images."""
    return [*shape[:1], *shape[2:]] if name in STEM else list(shape)
