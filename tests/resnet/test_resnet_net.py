"""Whole networks: every combination builds, trains a step and stays finite."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet import Downsample, Family, NetSpec, build, named
from tests.support.networks import specs


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_valid_spec_takes_a_step_at_any_image_size(data):
    spec = data.draw(specs())
    side = st.integers(spec.min_image_size, spec.min_image_size + 7)
    height, width = data.draw(side), data.draw(side)
    if spec.family is Family.ARTICLE:
        height = width = spec.image_size
    torch.manual_seed(0)
    net = build(spec)
    logits = net(torch.randn(2, spec.in_channels, height, width))
    assert logits.shape == (2, spec.num_classes)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert logits.isfinite().all()


def test_he_initialisation():
    """1502.01852 as fb.resnet.torch has it: N(0, 2 / (k k n_out)), BN 1 and 0, no bias before BN, classifier bias 0."""
    torch.manual_seed(0)
    net = build(NetSpec(depth=20))
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.bias is None for m in convolutions)
    for m in convolutions[1:]:  # 2,304 to 36,864 numbers each: standard error of the deviation 1.5 % to 0.4 %
        assert m.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * m.out_channels)), rel=0.06)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert torch.equal(m.weight, torch.ones_like(m.weight))
            assert torch.equal(m.bias, torch.zeros_like(m.bias))
    assert not net.fc.bias.any()


def test_maps_halve_twice():
    assert sizes(NetSpec(), 32, "stages") == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]  # 1512.03385, Sec. 4.2


def test_imagenet_maps():
    """1512.03385, Table 1: 112 after conv1, 56 after pooling, then 56, 28, 14, 7."""
    spec = named("resnet50")
    assert sizes(spec, 224, "stem")[:1] + sizes(spec, 224, "stem")[-1:] == [(64, 112, 112), (64, 56, 56)]
    assert sizes(spec, 224, "stages") == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]


def sizes(spec, side, part):
    """Channels, height and width after each module of a part of the network."""
    found = []
    with torch.device("meta"), torch.no_grad():
        net = build(spec)
        for module in getattr(net, part):
            module.register_forward_hook(lambda _m, _x, maps: found.append(tuple(maps.shape[1:])))
        assert net(torch.empty(2, 3, side, side)).shape == (2, spec.num_classes)
    return found


@pytest.mark.parametrize("downsample", Downsample)
def test_memory_format_does_not_change_the_answer(downsample):
    net = build(NetSpec(downsample=downsample)).eval()
    images = torch.randn(2, 3, 16, 16)
    expected = net(images)
    formats = []
    net.to(memory_format=torch.channels_last)
    net.stages[-1].register_forward_hook(
        lambda _m, _x, maps: formats.append(maps.is_contiguous(memory_format=torch.channels_last))
    )
    torch.testing.assert_close(net(images.contiguous(memory_format=torch.channels_last)), expected)
    assert formats == [True]  # no layer falls back to the other format
