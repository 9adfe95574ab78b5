"""The residual unit y = f(h(x) + F(x)): 1512.03385, Eqn. 1, and 1603.05027, Eqn. 1 and Fig. 4.

An activation order is only where the activations stand: inside F, after the sum, or before the split.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from resnet.kinds import Shortcut, StrideOn, Unit, Version
from resnet.shortcut import Change, Gate, Scale, shortcut
from resnet.spec import NetSpec

Activation = Callable[[int], nn.Module]  # channels -> module


def bn(channels: int) -> nn.Module:
    """Batch normalisation of so many channels."""
    return nn.BatchNorm2d(channels)


def relu(channels: int) -> nn.Module:
    """ReLU in place: nothing else reads what a convolution, a normalisation or a sum has just written."""
    del channels
    return nn.ReLU(inplace=True)


def relu_of_x(channels: int) -> nn.Module:
    """ReLU of the unit's input, which the shortcut reads too: not in place."""
    del channels
    return nn.ReLU()


class Order(NamedTuple):
    """Where the activations of one version stand."""

    before: tuple[Activation, ...]  # each convolution of F
    inner: tuple[Activation, ...]  # after each convolution of F but the last; also after the stem
    last: tuple[Activation, ...]  # after the last convolution of F
    after: tuple[Activation, ...]  # after the sum: f


def order(version: Version) -> Order:
    """Fig. 4 (a) to (e) of 1603.05027."""
    match version:
        case Version.V1:  # weight BN ReLU weight BN add ReLU
            return Order(before=(), inner=(bn, relu), last=(bn,), after=(relu,))
        case Version.BN_AFTER_ADD:  # weight BN ReLU weight add BN ReLU
            return Order(before=(), inner=(bn, relu), last=(), after=(bn, relu))
        case Version.RELU_BEFORE_ADD:  # weight BN ReLU weight BN ReLU add
            return Order(before=(), inner=(bn, relu), last=(bn, relu), after=())
        case Version.RELU_ONLY_PREACT:  # ReLU weight BN ReLU weight BN add
            return Order(before=(relu_of_x,), inner=(bn,), last=(bn,), after=())
        case Version.V2:  # BN ReLU weight BN ReLU weight add
            return Order(before=(bn, relu), inner=(), last=(), after=())


def activations(kinds: tuple[Activation, ...], channels: int) -> list[nn.Module]:
    """The modules of one place in the order."""
    return [kind(channels) for kind in kinds]


def chain(modules: list[nn.Module]) -> nn.Module:
    """Modules one after the other; a single one as it is, for every module costs a call of Python."""
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


class Residual(nn.Module):
    """y = f(h(x) + F(x))."""

    def __init__(self, h: nn.Module, F: nn.Module, f: nn.Module) -> None:
        super().__init__()
        self.h, self.F, self.f = h, F, f

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n d k l"]:
        return self.f(self.h(x) + self.F(x))


class ExclusiveGate(nn.Module):
    """y = f((1 - g(x)) h(x) + g(x) F(x)): exclusive gating, Fig. 2(c), as in highway networks."""

    def __init__(self, gate: Gate, h: nn.Module, F: nn.Module, f: nn.Module) -> None:
        super().__init__()
        self.gate, self.h, self.F, self.f = gate, h, F, f

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n d k l"]:
        g = self.gate(x)
        return self.f((1 - g) * self.h(x) + g * self.F(x))


class Plain(nn.Module):
    """y = f(F(x)): no shortcut at all."""

    def __init__(self, F: nn.Module, f: nn.Module) -> None:
        super().__init__()
        self.F, self.f = F, f

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n d k l"]:
        return self.f(self.F(x))


UNITS = (Residual, ExclusiveGate, Plain)


def conv(n_in: int, n_out: int, side: int, stride: int = 1) -> nn.Conv2d:
    """A convolution of side x side without bias (normalisation brings one), padded to keep the map at stride 1."""
    return nn.Conv2d(n_in, n_out, side, stride, padding=side // 2, bias=False)


def weights(spec: NetSpec, change: Change) -> list[nn.Conv2d]:
    """The convolutions of F. A bottleneck is a quarter of its output wide (1603.05027, Appendix)."""
    n_in, n_out, stride = change.n_in, change.n_out, change.stride
    match spec.unit:
        case Unit.SINGLE:
            return [conv(n_in, n_out, 3, stride)]
        case Unit.BASIC:
            return [conv(n_in, n_out, 3, stride), conv(n_out, n_out, 3)]
        case Unit.BOTTLENECK:
            first, second = (stride, 1) if spec.stride_on is StrideOn.CONV1X1 else (1, stride)
            inner = n_out // 4
            return [conv(n_in, inner, 1, first), conv(inner, inner, 3, second), conv(inner, n_out, 1)]


def branch(spec: NetSpec, change: Change, *, activated: bool) -> nn.Sequential:
    """F of one unit; `activated`: its first activation stands before the split, not in here."""
    places = order(spec.version)
    convs = weights(spec, change)
    modules: list[nn.Module] = []
    for k, weight in enumerate(convs):
        before = () if activated and k == 0 else places.before
        behind = places.last if weight is convs[-1] else places.inner
        modules += [*activations(before, weight.in_channels), weight, *activations(behind, weight.out_channels)]
    if spec.shortcut is Shortcut.CONSTANT_SCALING:
        modules.append(Scale(spec.residual_scale))
    return nn.Sequential(*modules)


def unit(spec: NetSpec, change: Change, *, first: bool) -> list[nn.Module]:
    """One unit, behind the activation that both branches read where there is one; the stem has that of the first.

    The first unit of a pre-activation net and its units that change dimension split after the activation
    (1603.05027, Appendix; KaimingHe/resnet-1k-layers). Their projections follow an activation, hence carry no
    normalisation; the projections of the other versions do (fb.resnet.torch, resnet.lua and preresnet.lua).
    """
    places = order(spec.version)
    activated = bool(places.before) and (first or change.dimension)
    shared = activations(places.before, change.n_in) if activated and not first else []
    F = branch(spec, change, activated=activated)
    f = chain(activations(places.after, change.n_out))
    h = shortcut(spec, change, bn=not places.before)
    if h is None:
        return [*shared, Plain(F, f)]
    if spec.shortcut is Shortcut.EXCLUSIVE_GATE:
        return [*shared, ExclusiveGate(Gate(change, spec.gate_bias), h, F, f)]
    return [*shared, Residual(h, F, f)]
