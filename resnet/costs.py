"""What a network costs, counted on built modules: a large one on the meta device, where nothing is computed."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import lru_cache

import torch
from torch import Tensor, UntypedStorage, nn

from resnet.depths import Linear, valid_depths
from resnet.net import assemble
from resnet.spec import NetSpec

# Values in the largest map of an image up to which a network is traced on the CPU, in milliseconds: the meta device
# loads torch's compiler for its first network, two seconds of each process.
SMALL = 2**17
IMAGES = 2  # of the batch that is traced: normalisation in training needs more than one value a channel


@dataclass(frozen=True)
class Cost:
    """What one network costs."""

    params: int  # trainable parameters
    macs: int  # multiply-accumulates of convolutions and classifier for one image: the papers' "FLOPs"
    activation_bytes: int  # kept for the backward pass of one image, float32


def cost(spec: NetSpec, image_size: int | tuple[int, int] = 32) -> Cost:
    """What a network costs for images of `image_size` pixels: the side of a square or (height, width).

    Raises ValueError when the network cannot take images of this size.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    spec.check_image(height, width)
    # Whatever the rate of dropout and the bias of gates, the cost is the same, and a search varies them.
    spec = spec.model_copy(update={"gate_bias": 0.0, "dropout": 0.5 if spec.dropout else 0.0})
    rule = valid_depths(spec.family)[spec.unit]
    if not isinstance(rule, Linear):
        return count(spec, height, width)
    n = spec.blocks[0]
    # every further n adds one and the same unit to each stage: two small networks tell what any depth costs
    one, two = (count(spec.model_copy(update={"depth": rule.step * k + 2}), height, width) for k in (1, 2))
    return Cost(*(first + (n - 1) * (second - first) for first, second in zip(astuple(one), astuple(two), strict=True)))


@lru_cache(maxsize=1024)
def count(spec: NetSpec, height: int, width: int, device: str | None = None) -> Cost:
    """The cost of a network, by building and tracing all of it: seconds for a thousand layers.

    `device`: cpu or meta, which count the same; default: the faster one. torch's generators are left alone.
    """
    where = torch.device(device or ("cpu" if max(spec.channels) * height * width <= SMALL else "meta"))
    with where, _one_thread(), torch.random.fork_rng([]):  # pyright: ignore[reportUnknownMemberType]
        net = assemble(spec)
        images = torch.zeros(IMAGES, spec.in_channels, height, width)
        macs, kept = _trace(net, images)
    return Cost(sum(p.numel() for p in net.parameters()), macs, kept)


@contextmanager
def _one_thread() -> Generator[None]:
    """While it is entered, torch computes in one thread: several would wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _trace(net: nn.Module, images: Tensor) -> tuple[int, int]:
    """MACs of the layers that multiply, and bytes that autograd keeps; both for one image of the batch."""
    macs = 0
    kept: set[UntypedStorage] = set()  # a map that two layers need is kept once
    held = {p.untyped_storage() for p in net.parameters()}

    def multiply(layer: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs
        weight = layer.get_parameter("weight")  # (n_out, ...): each output element is a sum over the rest
        macs += output.numel() * weight[0].numel()

    def keep(tensor: Tensor) -> Tensor:
        if tensor.ndim > 1:  # one dimension: statistics of the batch, not maps
            kept.add(tensor.untyped_storage())
        return tensor

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(multiply)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(images)
    return macs // len(images), sum(storage.nbytes() for storage in kept - held) // len(images)
