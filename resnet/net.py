"""From a NetSpec to the network: stem, stages, head."""

from jaxtyping import Float
from torch import Tensor, nn

from resnet.residual import activations, conv, order, unit
from resnet.shortcut import Change
from resnet.spec import NetSpec, Unit


class ResNet(nn.Module):
    """Stem, three stages of residual units, global average pooling, linear classifier.

    Input: images, float, (n, in_channels, height, width), any height and width that `NetSpec.check_image` accepts.
    Output: logits, (n, num_classes).
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        places, widths = order(spec.version), spec.channels
        self.spec = spec
        self.stem = nn.Sequential(conv(spec.in_channels, widths[0], 3), *activations(places.inner, widths[0]))
        self.stages = nn.Sequential()
        n_in = widths[0]
        for width, stride in zip(widths, spec.strides, strict=True):
            n_out = 4 * width if spec.unit is Unit.BOTTLENECK else width
            self.stages.append(stage(spec, Change(n_in, n_out, stride), first=len(self.stages) == 0))
            n_in = n_out
        # the extra activation after the last addition of a pre-activation net (1603.05027, Appendix)
        self.end = nn.Sequential(*activations(places.before, n_in))
        self.fc = nn.Linear(n_in, spec.num_classes)

    def forward(self, x: Float[Tensor, "n c i j"]) -> Float[Tensor, "n k"]:
        maps = self.end(self.stages(self.stem(x)))  # side i -> i, i/2, i/4: 32, 16, 8 on CIFAR
        return self.fc(maps.mean(dim=(2, 3)))


def stage(spec: NetSpec, change: Change, *, first: bool) -> nn.Sequential:
    """n units; the first of them makes the change, the others keep the shape."""
    units = unit(spec, change, first=first)
    for _ in range(spec.units_per_stage - 1):
        units += unit(spec, Change(change.n_out, change.n_out, 1), first=False)
    return nn.Sequential(*units)


def initialise(net: nn.Module) -> None:
    """He initialisation as fb.resnet.torch: N(0, 2 / (k k n_out)) for every convolution, zero bias of the classifier.

    The biases of gates keep their `gate_bias`, normalisations start at gamma 1 and beta 0 (torch's default).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def build(spec: NetSpec) -> ResNet:
    """The network that `spec` describes, in training mode, initialised from torch's global generator."""
    net = ResNet(spec)
    initialise(net)
    return net
