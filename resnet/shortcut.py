"""The shortcut h(x): one small module a kind, Fig. 2 of 1603.05027.

In the units that change dimension the papers give no form for a scaled, gated or dropped shortcut (1603.05027,
footnote 1, sets these two or three units aside). Here the factor acts on the shortcut after it has changed dimension,
so that both terms of the sum have one shape.
"""

from dataclasses import dataclass

import torch.nn.functional as ops
from jaxtyping import Float
from torch import Tensor, nn

from resnet.kinds import Downsample, Shortcut
from resnet.spec import NetSpec


@dataclass(frozen=True)
class Change:
    """What one unit does to the shape: channels n_in -> n_out, sides divided by the stride (rounded up)."""

    n_in: int
    n_out: int
    stride: int

    @property
    def dimension(self) -> bool:
        """Whether input and output differ in shape."""
        return self.n_in != self.n_out or self.stride != 1


class ZeroPad(nn.Module):
    """Option A of 1512.03385: every stride-th pixel, zero channels appended after the others as in fb.resnet.torch."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.stride, self.extra = change.stride, change.n_out - change.n_in

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n d k l"]:
        return ops.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class Scale(nn.Module):
    """Multiplication with a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n c i j"]:
        return self.factor * x

    def extra_repr(self) -> str:
        return f"{self.factor}"


class Gate(nn.Module):
    """g(x) = sigmoid(W_g x + b_g), W_g a 1x1 convolution, one value for each element of the output (Sec. 3.1)."""

    def __init__(self, change: Change, bias: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(change.n_in, change.n_out, 1, change.stride)
        nn.init.constant_(self.bias, bias)

    @property
    def bias(self) -> Tensor:
        """b_g, one for each output channel."""
        assert self.conv.bias is not None
        return self.conv.bias

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n d k l"]:
        return self.conv(x).sigmoid()


class GatedShortcut(nn.Module):
    """(1 - g(x)) times the shortcut: shortcut-only gating, Fig. 2(d)."""

    def __init__(self, gate: Gate, path: nn.Module) -> None:
        super().__init__()
        self.gate, self.path = gate, path

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n d k l"]:
        return (1 - self.gate(x)) * self.path(x)


def projection(change: Change, *, bn: bool) -> nn.Sequential:
    """W_s of 1512.03385, Eqn. 2: a 1x1 convolution without bias, with or without batch normalisation."""
    conv = nn.Conv2d(change.n_in, change.n_out, 1, change.stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(change.n_out)) if bn else nn.Sequential(conv)


def identity(spec: NetSpec, change: Change, *, bn: bool) -> nn.Module:
    """The identity; where the unit changes dimension its stand-in: option A (zero padding) or B (projection)."""
    if not change.dimension:
        return nn.Identity()
    match spec.downsample:
        case Downsample.ZERO_PAD:
            return ZeroPad(change)
        case Downsample.PROJECTION:
            return projection(change, bn=bn)


def shortcut(spec: NetSpec, change: Change, *, bn: bool) -> nn.Module | None:
    """h of one unit; None for the plain net. `bn`: whether its 1x1 convolutions are followed by normalisation."""
    match spec.shortcut:
        case Shortcut.IDENTITY | Shortcut.EXCLUSIVE_GATE:
            return identity(spec, change, bn=bn)
        case Shortcut.NONE:
            return None
        case Shortcut.CONSTANT_SCALING:
            return nn.Sequential(identity(spec, change, bn=bn), Scale(spec.shortcut_scale))
        case Shortcut.SHORTCUT_ONLY_GATE:
            return GatedShortcut(Gate(change, spec.gate_bias), identity(spec, change, bn=bn))
        case Shortcut.CONV1X1:
            return projection(change, bn=bn)  # option C: in every unit, also where the dimension stays
        case Shortcut.DROPOUT:
            return nn.Sequential(identity(spec, change, bn=bn), nn.Dropout(spec.dropout))
