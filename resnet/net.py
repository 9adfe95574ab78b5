"""From a NetSpec to the network: stem, stages, head; and its branches, dropped in training (arXiv:1603.09382)."""

from typing import Any, assert_never, cast

from jaxtyping import Float
from torch import Tensor, nn

from resnet import article
from resnet.kinds import Family, Unit
from resnet.names import named
from resnet.residual import UNITS, activations, conv, order, unit
from resnet.shortcut import Change
from resnet.spec import NetSpec


class ResNet(nn.Module):
    """Stem, stages of residual units, what stands after the last unit, linear classifier.

    Input: images, float, (n, in_channels, height, width), any height and width that `NetSpec.check_image` accepts.
    Output: logits, (n, num_classes).
    """

    def __init__(self, spec: NetSpec, stem: nn.Sequential, stages: nn.Sequential, end: nn.Sequential, fc: nn.Linear):
        super().__init__()
        self.spec = spec
        self.stem, self.stages, self.end, self.fc = stem, stages, end, fc

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n k"]:
        return self.fc(self.end(self.stages(self.stem(x))))

    def layers(self) -> list[nn.ModuleList]:
        """Stem, each residual unit with the activation before its split, head: all modules, from images to logits."""
        found, before = [nn.ModuleList([self.stem])], list[nn.Module]()
        for stage in self.stages.children():
            for module in stage.children():
                before.append(module)
                if isinstance(module, UNITS):
                    found.append(nn.ModuleList(before))
                    before = []
        return [*found, nn.ModuleList([self.end, self.fc])]


class GlobalAveragePooling(nn.Module):
    """The mean of each map."""

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n c"]:
        return x.mean(dim=(2, 3))


def stem(spec: NetSpec) -> nn.Sequential:
    """The first convolution and the first activation, which both branches of the first unit read.

    In a pre-activation net that activation is right after conv1 and before the split (1603.05027, Appendix); with
    max pooling between them in the ImageNet family, as fb.resnet.torch, preresnet.lua.
    """
    width, places = spec.channels[0], order(spec.version)
    activated = activations((*places.inner, *places.before), width)
    match spec.family:
        case Family.CIFAR:
            return nn.Sequential(conv(spec.in_channels, width, 3), *activated)
        case Family.IMAGENET:  # side 224 -> 112 -> 56
            return nn.Sequential(conv(spec.in_channels, width, 7, 2), *activated, nn.MaxPool2d(3, 2, padding=1))
        case Family.ARTICLE:
            return article.stem(spec)
        case _:
            assert_never(spec.family)


def outputs(spec: NetSpec) -> list[int]:
    """Channels that the units of each stage put out: of a bottleneck four times those of its 3x3 convolution."""
    return [width * (4 if spec.unit is Unit.BOTTLENECK else 1) for width in spec.channels]


def stages(spec: NetSpec) -> nn.Sequential:
    """The residual units; sides i, i/2, i/4 in CIFAR nets: 32, 16, 8."""
    made = nn.Sequential()
    n_in = spec.channels[0]
    for n_out, stride, blocks in zip(outputs(spec), spec.strides, spec.blocks, strict=True):
        made.append(stage(spec, Change(n_in, n_out, stride), blocks, first=len(made) == 0))
        n_in = n_out
    return made


def stage(spec: NetSpec, change: Change, blocks: int, *, first: bool) -> nn.Sequential:
    """So many units; the first of them makes the change, the others keep the shape."""
    if spec.family is Family.ARTICLE:
        return nn.Sequential(article.unit(spec.version, change))
    units = unit(spec, change, first=first)
    for _ in range(blocks - 1):
        units += unit(spec, Change(change.n_out, change.n_out, 1), first=False)
    return nn.Sequential(*units)


def head(spec: NetSpec) -> tuple[nn.Sequential, nn.Linear]:
    """What stands after the last unit, and the classifier."""
    width = outputs(spec)[-1]
    if spec.family is Family.ARTICLE:
        return nn.Sequential(nn.Flatten()), nn.Linear(width * spec.image_size**2, spec.num_classes)
    # the extra activation after the last addition of a pre-activation net (1603.05027, Appendix)
    last = activations(order(spec.version).before, width)
    return nn.Sequential(*last, GlobalAveragePooling()), nn.Linear(width, spec.num_classes)


def initialise(net: nn.Module) -> None:
    """He initialisation as fb.resnet.torch: N(0, 2 / (k k n_out)) for every convolution, zero bias of the classifier.

    The biases of gates keep their `gate_bias`, normalisations start at gamma 1 and beta 0 (torch's default).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def assemble(spec: NetSpec) -> ResNet:
    """The layers of the network that `spec` describes, with torch's own initialisation."""
    return ResNet(spec, stem(spec), stages(spec), *head(spec))


def build(spec: NetSpec) -> ResNet:
    """The network that `spec` describes, in training mode, initialised from torch's global generator."""
    net = assemble(spec)
    if spec.family is Family.ARTICLE:
        article.initialise(net)
    else:
        initialise(net)
    return net


def create_model(name: str, **overrides: Any) -> ResNet:
    """The published network, e.g. `create_model("resnet56", num_classes=100)`; errors as `resnet.named`."""
    return build(named(name, **overrides))


class StochasticDepth(nn.Module):
    """In training 0 for each image with this probability, else x / (1 - probability); in evaluation x.

    As `torchvision.ops.stochastic_depth` with mode "row", from torch's generator, so that in evaluation nothing of the
    network is scaled (arXiv:1603.09382, equation 5).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.survival = 1 - probability

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n c i j"]:
        if not self.training:
            return x
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(self.survival).div_(self.survival)

    def extra_repr(self) -> str:
        return f"survival={self.survival:g}"


def drop_branches(model: ResNet, probability: float) -> None:
    """Drops the branch F of unit l of L with l / L of this probability, as equation 4 has it.

    What drops it is the last module of F and holds no tensor: the network's state and its output in evaluation stay.
    """
    units = [layer[-1] for layer in model.layers()[1:-1]]
    for number, residual in enumerate(units, 1):
        cast(nn.Sequential, residual.F).append(StochasticDepth(probability * number / len(units)))
