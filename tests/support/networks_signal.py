"""Networks of which only parts carry the signal, for tests."""

import torch
from torch import nn

from resnet import build
from resnet.residual import ExclusiveGate, Plain, Residual
from resnet.shortcut import Gate

KINDS = (Residual, ExclusiveGate, Plain)


def units(net):
    """The residual units in order."""
    return [m for m in net.modules() if isinstance(m, KINDS)]


def silenced(spec):
    """The network in float64 with F = 0 and W_g = 0: only shortcuts carry the signal."""
    torch.manual_seed(0)
    net = build(spec).double()
    for unit in units(net):
        last = [m for m in unit.F.modules() if isinstance(m, nn.Conv2d)][-1]
        nn.init.zeros_(last.weight)
    for gate in (m for m in net.modules() if isinstance(m, Gate)):
        nn.init.zeros_(gate.conv.weight)
    return net


def batch(n=2, side=8, dtype=torch.float32, channels=3, seed=0):
    return torch.randn(n, channels, side, side, dtype=dtype, generator=torch.Generator().manual_seed(seed))
