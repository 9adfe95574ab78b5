"""Weights of torchvision's ImageNet networks, in and out: its names for our layers, derived by walking our modules.

torchvision's network is the original unit (v1) with identity shortcuts, projections with normalisation where the
dimension changes, and the stride of a bottleneck on its 3x3 convolution (torchvision/models/resnet.py, "ResNet V1.5").
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor, nn

from resnet.kinds import Downsample, Family, Shortcut, StrideOn, Version
from resnet.net import ResNet
from resnet.residual import Residual
from resnet.spec import NetSpec

_TORCHVISION = {
    "family": Family.IMAGENET,
    "version": Version.V1,
    "shortcut": Shortcut.IDENTITY,
    "downsample": Downsample.PROJECTION,
    "stride_on": StrideOn.CONV3X3,  # a stride on the 1x1 has the same shapes and other logits
    "width": 1.0,
}


def load_torchvision(model: ResNet, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights and running statistics of a torchvision ResNet into `model`, of its dtype, on its device.

    `state_dict`: names and shapes as `torchvision.models.resnet18().state_dict()` has them, all of them and no others;
    only `num_batches_tracked` may be missing, as in files older than torch 0.4.1. Raises ValueError, and leaves `model`
    as it was, when torchvision has no such network or when a name or a shape is not right.
    """
    ours = to_torchvision(model)
    for key in ours:
        if key not in state_dict and not key.endswith(".num_batches_tracked"):
            raise ValueError(f"state_dict has no key {key!r}; {_other_network(model.spec)}")
    for key in state_dict:
        if key not in ours:
            raise ValueError(f"state_dict key {key!r} is none of the network's; {_other_network(model.spec)}")
    given = {key: state_dict[key] for key in ours if key in state_dict}  # files have them in any order
    for key, value in given.items():
        if value.shape != ours[key].shape:
            raise ValueError(
                f"state_dict key {key!r} has shape {tuple(value.shape)}, in the network it is "
                f"{tuple(ours[key].shape)}; {_other_shape(key, value, ours[key], model.spec)}"
            )
    for key, value in given.items():
        ours[key].copy_(value)


def to_torchvision(model: ResNet) -> dict[str, Tensor]:
    """The weights and running statistics of `model` under torchvision's names, in torchvision's order.

    As in `model.state_dict()` the tensors are the model's own: clone what must not change with it. Raises ValueError
    when torchvision has no such network.
    """
    fields = model.spec.model_dump(mode="json")
    for name, value in _TORCHVISION.items():
        if fields[name] != value:
            raise ValueError(
                f"net {name} {fields[name]!r} does not exist in torchvision; build the network with {name}={value}"
            )
    return {f"{name}.{key}": value for name, layer in _layers(model) for key, value in layer.state_dict().items()}


def _layers(model: ResNet) -> Iterator[tuple[str, nn.Module]]:
    """torchvision's name of every layer that has weights, in torchvision's order: F before h."""
    yield from _numbered(model.stem)
    for s, stage in enumerate(model.stages.children(), start=1):
        for k, unit in enumerate(stage.children()):
            assert isinstance(unit, Residual)
            for name, layer in _numbered(unit.F.children()):
                yield f"layer{s}.{k}.{name}", layer
            for name, layer in unit.h.named_children():  # 0 and 1; an identity has no children
                yield f"layer{s}.{k}.downsample.{name}", layer
    yield "fc", model.fc


def _numbered(layers: Iterable[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """conv1, bn1, conv2, ...: convolutions and normalisations as they come."""
    seen = Counter[str]()
    for layer in layers:
        match layer:
            case nn.Conv2d():
                kind = "conv"
            case nn.BatchNorm2d():
                kind = "bn"
            case _:
                continue
        seen[kind] += 1
        yield f"{kind}{seen[kind]}", layer


def _other_network(spec: NetSpec) -> str:
    return f"pass the state_dict of a torchvision resnet{spec.depth}, or build the network at the depth it has"


def _other_shape(key: str, value: Tensor, ours: Tensor, spec: NetSpec) -> str:
    """The remedy for a wrong shape; the images and the classes are the only shapes that a spec leaves open."""
    if key == "conv1.weight" and value.ndim == 4 and value[:, 0].shape == ours[:, 0].shape:
        return f"build the network with in_channels={value.shape[1]}"
    if key == "fc.weight" and value.ndim == 2 and value.shape[1] == ours.shape[1]:
        return f"build the network with num_classes={value.shape[0]}"
    return _other_network(spec)
