"""The five activation orders against a straight-line network written from the paper's own strings."""

import pytest
import torch
from torch import nn

from resnet import NetSpec, build
from resnet.residual import Residual, unit
from resnet.shortcut import Change
from tests.support.networks import PAPERS

ORDERS = {
    row["case"]: row["order"] for row in PAPERS["v2_table2_activation"]
}  # e.g. "weight BN ReLU weight BN add ReLU"
VERSIONS = {ours: case for case, ours in PAPERS["our_orders"].items()}
STEMS = {"v2": "", "relu_only_preact": "BN"}  # conv1; BN and ReLU where no later activation stands for them
KERNELS = {"single": [3], "basic": [3, 3], "bottleneck": [1, 3, 1]}


def segments(version):
    """Tokens before the first weight, between weights, from the last weight to the addition, after the addition."""
    residual, after = ORDERS[VERSIONS[version]].split("add")
    before, between, last = (part.split() for part in residual.split("weight"))
    return before, between, last, after.split()


class StraightLine:
    """The network once more, slow and plain: takes the weights in the order in which they are used."""

    def __init__(self, net, spec):
        self.spec, self.fc = spec, net.fc
        self.convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
        self.norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]

    def conv(self, x, stride=1):
        layer = self.convs.pop(0)
        return nn.functional.conv2d(x, layer.weight, stride=stride, padding=layer.kernel_size[0] // 2)

    def run(self, tokens, x):
        for token in tokens:
            if token == "BN":
                layer = self.norms.pop(0)
                centred = x - x.mean((0, 2, 3), keepdim=True)
                x = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
                x = x * layer.weight[:, None, None] + layer.bias[:, None, None]
            else:
                assert token == "ReLU"
                x = x.clamp(min=0)
        return x

    def shortcut(self, x, channels, stride):
        if channels == x.shape[1] and stride == 1:
            return x
        if self.spec.downsample == "projection":
            preactivated = segments(self.spec.version)[0]
            return self.run([] if preactivated else ["BN"], self.conv(x, stride))
        out = x.new_zeros(len(x), channels, -(-x.shape[2] // stride), -(-x.shape[3] // stride))
        out[:, : x.shape[1]] = x[:, :, ::stride, ::stride]
        return out

    def unit(self, x, channels, stride, first):
        before, between, last, after = segments(self.spec.version)
        kernels = KERNELS[self.spec.unit]
        if first or stride != 1 or channels != x.shape[1]:  # one activation for both branches
            x, before = self.run(before, x), []
        h = self.shortcut(x, channels, stride)
        residual = self.run(before, x)
        strided = 1 if len(kernels) == 3 and self.spec.stride_on == "conv3x3" else 0
        for k in range(len(kernels)):
            residual = self.conv(residual, stride if k == strided else 1)
            residual = self.run(between if k < len(kernels) - 1 else last, residual)
        return self.run(after, h + residual)

    def __call__(self, x):
        x = self.run(STEMS.get(self.spec.version, "BN ReLU").split(), self.conv(x))
        for stage, width in enumerate(self.spec.channels):
            channels = 4 * width if self.spec.unit == "bottleneck" else width
            for k in range(2):
                x = self.unit(x, channels, stride=2 if k == 0 and stage > 0 else 1, first=k == stage == 0)
        x = self.run(segments(self.spec.version)[0], x)
        assert not self.convs
        assert not self.norms
        return x.mean((2, 3)) @ self.fc.weight.T + self.fc.bias


def randomised(spec):
    """The network in float64 with every parameter drawn, so that no gamma is 1 and no beta 0."""
    torch.manual_seed(0)
    net = build(spec).double()
    for p in net.parameters():
        nn.init.normal_(p, std=0.5)
    return net


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("unit", "extra"),
    [
        ("single", {}),
        ("basic", {}),
        ("basic", {"downsample": "projection"}),
        ("bottleneck", {}),
        ("bottleneck", {"downsample": "zero_pad", "stride_on": "conv3x3"}),
    ],
)
def test_outputs_and_gradients_equal_the_straight_line(version, unit, extra):
    depth = {"single": 8, "basic": 14, "bottleneck": 20}[unit]  # two units a stage
    spec = NetSpec(depth=depth, unit=unit, version=version, width=0.25, num_classes=5, **extra)
    net = randomised(spec)
    images = torch.randn(3, 3, 9, 6, dtype=torch.float64)
    logits, expected = net(images), StraightLine(net, spec)(images)
    torch.testing.assert_close(logits, expected)
    direction = torch.randn_like(logits)
    parameters = list(net.parameters())
    gradients = torch.autograd.grad((logits * direction).sum(), parameters)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * direction).sum(), parameters))


@pytest.mark.parametrize(("version", "exact"), [("v2", True), ("relu_only_preact", True), ("v1", False)])
def test_without_residual_a_preactivated_unit_is_the_identity(version, exact):
    spec = NetSpec(version=version)
    (block,) = unit(spec, Change(4, 4, 1), first=False)
    assert isinstance(block, Residual)
    for p in block.F.parameters():
        nn.init.zeros_(p)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), x) == exact
    if not exact:
        assert torch.equal(block(x), x.clamp(min=0))  # the ReLU after the sum stands in the way
