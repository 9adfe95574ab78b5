"""Networks for tests: drawn, or of which only parts carry the signal; and what the papers say of theirs."""

import json
from pathlib import Path

import torch
from hypothesis import strategies as st
from torch import nn

from resnet import Downsample, Family, NetSpec, Shortcut, StrideOn, Unit, Version, build
from resnet.residual import ExclusiveGate, Plain, Residual
from resnet.shortcut import Gate

PAPERS = json.loads(Path(__file__).with_name("papers.json").read_text())
KINDS = (Residual, ExclusiveGate, Plain)
STEP = {Unit.BASIC: 6, Unit.BOTTLENECK: 9, Unit.SINGLE: 3}
IMAGENET = {Unit.BASIC: [18, 34], Unit.BOTTLENECK: [50, 101]}  # the deeper ones take seconds a step


@st.composite
def specs(draw):
    """Any valid network that is small enough for a step in a test."""
    family = draw(st.sampled_from(Family))
    data = {"in_channels": draw(st.integers(1, 5)), "num_classes": draw(st.integers(2, 12))}
    data["width"] = draw(st.floats(0.04, 0.3))
    if family is Family.ARTICLE:
        version = draw(st.sampled_from([Version.V1, Version.V2]))
        return NetSpec(family=family, version=version, image_size=draw(st.integers(1, 12)), **data)
    unit = draw(st.sampled_from(Unit if family is Family.CIFAR else list(IMAGENET)))
    cifar = st.integers(1, 3).map(lambda n: STEP[unit] * n + 2)
    return NetSpec(
        family=family,
        unit=unit,
        depth=draw(cifar if family is Family.CIFAR else st.sampled_from(IMAGENET[unit])),
        version=draw(st.sampled_from(Version)),
        shortcut=draw(st.sampled_from(Shortcut)),
        downsample=draw(st.sampled_from(Downsample)),
        stride_on=draw(st.sampled_from(StrideOn)),
        shortcut_scale=draw(st.floats(-1, 1)),
        residual_scale=draw(st.floats(-1, 1)),
        gate_bias=draw(st.floats(-10, 10)),
        dropout=draw(st.floats(0, 0.9)),
        **data,
    )


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
