"""Whole networks: every combination builds, trains a step and stays finite."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet import Downsample, Family, NetSpec, Shortcut, Unit, Version, build, create_model
from tests.support.networks import STEP, specs


def check_step(spec, height, width):
    """One forward and backward pass: logits of the right shape, a finite gradient for every parameter."""
    torch.manual_seed(0)
    net = build(spec)
    logits = net(torch.randn(2, spec.in_channels, height, width))
    assert logits.shape == (2, spec.num_classes)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert logits.isfinite().all()


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("shortcut", Shortcut)
def test_every_combination_takes_a_step(unit, version, shortcut):
    depth = 2 * STEP[unit] + 2
    given = {"unit": unit, "depth": depth, "version": version, "shortcut": shortcut, "width": 0.25}
    for spec in {NetSpec(downsample=downsample, **given) for downsample in Downsample}:
        check_step(spec, 8, 8)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_valid_spec_takes_a_step_at_any_image_size(data):
    spec = data.draw(specs())
    side = st.integers(spec.min_image_size, spec.min_image_size + 7)
    height, width = data.draw(side), data.draw(side)
    if spec.family is Family.ARTICLE:
        height = width = spec.image_size
    check_step(spec, height, width)


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
    net = build(NetSpec())
    sizes = []
    for stage in net.stages:
        stage.register_forward_hook(lambda _m, _x, maps: sizes.append(tuple(maps.shape[1:])))
    net(torch.randn(1, 3, 32, 32))
    assert sizes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]  # 1512.03385, Sec. 4.2


def test_imagenet_maps():
    """1512.03385, Table 1: 112 after conv1, 56 after pooling, then 56, 28, 14, 7."""
    net = create_model("resnet50").eval()
    sizes = []
    for layer in (net.stem[0], net.stem[-1], *net.stages):
        layer.register_forward_hook(lambda _m, _x, maps: sizes.append(tuple(maps.shape[1:])))
    with torch.no_grad():
        assert net(torch.randn(1, 3, 224, 224)).shape == (1, 1000)
    assert sizes == [(64, 112, 112), (64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]


def test_same_seed_same_weights():
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nets.append(torch.cat([p.flatten() for p in build(NetSpec()).parameters()]))
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


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
