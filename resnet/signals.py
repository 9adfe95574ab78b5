"""How the signal's scale changes from unit to unit: one forward and one backward pass."""

from collections.abc import Generator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate
from math import nan
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as ops
from jaxtyping import Float, Int
from torch import Tensor, nn

from resnet.net import ResNet, build
from resnet.residual import ExclusiveGate, Plain, Residual
from resnet.route import LEAST, MOST, reaches_first_unit, reason, shortcut_gain
from resnet.spec import NetSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Signal:
    """What one forward and one backward pass have measured; index l from 0 (input of the first unit) to L units."""

    spec: NetSpec
    rms: tuple[float, ...]  # forward scale: root mean square of x_l, the output of unit l
    gradient_norm: tuple[float, ...]  # L2 norm of dE/dx_l, E the mean cross-entropy of the batch

    @property
    def shortcut_gain(self) -> float | None:
        """The direct path's closed form, of the specification: trained weights do not enter."""
        return shortcut_gain(self.spec)

    @property
    def gradient_ratio(self) -> float:
        """|dE/dx_0| / |dE/dx_L|, over all units; nan when no gradient leaves the classifier."""
        return self.gradient_norm[0] / self.gradient_norm[-1] if self.gradient_norm[-1] else nan

    @property
    def reaches_first_unit(self) -> bool:
        """Whether the closed forms (`reaches_first_unit`) and the measured gradient both say so."""
        return reaches_first_unit(self.spec) and LEAST <= self.gradient_ratio <= MOST

    @property
    def verdict(self) -> str:
        """One sentence: whether the signal reaches the first unit before training, and why."""
        says = "reaches the first unit" if self.reaches_first_unit else "does not reach the first unit intact"
        measured = f"the gradient measured there is {self.gradient_ratio:.2g} times that of the last unit's output"
        return f"The signal {says}: {reason(self.spec)}; {measured}."

    def plot(self) -> "Figure":
        """Forward scale above, gradient norm below, on log axes over the units; dotted lines where a stage ends."""
        from matplotlib.figure import Figure  # noqa: PLC0415  a second to import, for pictures only

        figure = Figure(figsize=(8, 5), layout="constrained")
        figure.suptitle(self.verdict, wrap=True, fontsize="medium")  # pyright: ignore[reportUnknownMemberType]
        forward, backward = figure.subplots(2, sharex=True)
        forward.set_ylabel("RMS of $x_l$")
        backward.set_ylabel(r"$L_2$ norm of $\partial E / \partial x_l$")
        backward.set_xlabel("unit $l$ ($x_0$: input of the first unit, $x_l$: output of unit $l$)")
        for axes, values in ((forward, self.rms), (backward, self.gradient_norm)):
            axes.semilogy(values, marker=".")
            for end in list(accumulate(self.spec.blocks))[:-1]:
                axes.axvline(end, color="grey", linestyle=":")
        return figure


def signal(
    net: ResNet | NetSpec,
    images: Float[Tensor, "n c i j"],
    labels: Int[Tensor, " n"] | None = None,
    *,
    seed: int = 0,
) -> Signal:
    """One forward and backward pass in training mode: how the signal's scale changes from unit to unit.

    A specification is built on the images' device and in their precision. A network is copied first, so that its mode,
    gradients and running statistics stay as they are; so does torch's global generator. `seed` draws weights and
    dropout, and the classes where no `labels` are given. Raises ValueError when the batch is none for the network.
    """
    spec = net if isinstance(net, NetSpec) else net.spec
    if labels is None:
        classes = torch.Generator().manual_seed(seed)
        labels = torch.randint(spec.num_classes, (len(images),), generator=classes).to(images.device)
    _check(spec, images, labels)
    with torch.enable_grad(), _seeded(seed, images.device):
        copy = build(spec).to(images) if isinstance(net, NetSpec) else deepcopy(net).train()
        x = _record(copy)
        # as a leaf, so that x_0 has a gradient also where every parameter is frozen
        loss = ops.cross_entropy(copy(images.detach().requires_grad_()), labels)
        gradients = torch.autograd.grad(loss, x)
    return Signal(spec, tuple(_norm(x_l) / x_l.numel() ** 0.5 for x_l in x), tuple(map(_norm, gradients)))


def _check(spec: NetSpec, images: Tensor, labels: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != spec.in_channels or not images.is_floating_point():
        raise ValueError(
            f"images {tuple(images.shape)} of {images.dtype} are no batch; "
            f"give floating point of shape (n, {spec.in_channels}, height, width)"
        )
    if len(images) < 2:
        raise ValueError(f"images are {len(images)}; give at least 2, for normalisation takes statistics of a batch")
    spec.check_image(*images.shape[2:])
    if labels.shape != images.shape[:1] or not 0 <= labels.min() <= labels.max() < spec.num_classes:
        raise ValueError(
            f"labels {tuple(labels.shape)} are not one class an image; "
            f"give {len(images)} integers from 0 to {spec.num_classes - 1}"
        )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Generator[None, None, None]:
    """The generators of the CPU and of `device`, seeded for a while; every other is left alone."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # pyright: ignore[reportUnknownMemberType]
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed all devices
        for cuda in devices:
            with torch.cuda.device(cuda):
                torch.cuda.manual_seed(seed)
        yield


def _record(net: ResNet) -> list[Tensor]:
    """The list that the next forward pass fills with x_0, ..., x_L."""
    x: list[Tensor] = []

    def leave(_unit: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        x.extend([output] if x else [inputs[0], output])  # nothing later writes in place on a unit's output

    for unit in net.stages.modules():
        if isinstance(unit, Residual | ExclusiveGate | Plain):
            unit.register_forward_hook(leave)
    return x


def _norm(x: Tensor) -> float:
    """L2, in double precision: the squares of small gradients are below float32's range."""
    return x.detach().double().square().sum().item() ** 0.5
