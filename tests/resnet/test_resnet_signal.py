"""What one forward and backward pass measures of the signal."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as ops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet import NetSpec, Shortcut, Signal, Unit, Version, build, signal
from tests.support.networks import KINDS, STEP, batch, silenced, specs


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_forward_scale_of_a_silenced_net(factor):
    """x_L = lambda^L x_0 at the pixels and channels that are kept (1603.05027, before Eqn. 7)."""
    spec = NetSpec(shortcut="constant_scaling", shortcut_scale=factor, residual_scale=0, version="relu_before_add")
    net = silenced(spec)
    images = batch(dtype=torch.float64)
    measured = signal(net, images)
    x_0 = net.stem(images)
    kept = x_0[:, :, ::4, ::4].square().mean().sqrt().item() / 2  # 16 channels of 64, the others 0: half the RMS
    assert measured.rms[-1] == pytest.approx(kept * factor**9, rel=1e-12)


# Measurement against a straight loop


def straight(net, images, labels):
    """x_0, ..., x_L and the gradients of the loss with respect to them, module by module without hooks."""
    x = net.stem(images)
    points = []
    for module in (m for stage in net.stages for m in stage):
        if isinstance(module, KINDS) and not points:
            points.append(x)
        x = module(x)
        if isinstance(module, KINDS):
            points.append(x)
    loss = ops.cross_entropy(net.fc(net.end(x)), labels)
    return points, torch.autograd.grad(loss, points)


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("shortcut", Shortcut)
def test_norms_equal_those_of_a_straight_loop(unit, version, shortcut):
    spec = NetSpec(unit=unit, depth=2 * STEP[unit] + 2, version=version, shortcut=shortcut, gate_bias=-1, width=0.25)
    torch.manual_seed(3)
    net = build(spec).double()
    images, labels = batch(4, dtype=torch.float64), torch.tensor([0, 3, 9, 9])
    measured = signal(net, images, labels, seed=7)
    torch.manual_seed(7)  # of dropout
    points, gradients = straight(net, images, labels)
    assert len(points) == 7  # two units a stage
    rms = [x.square().mean().sqrt().item() for x in points]
    norms = [(g**2).sum().sqrt().item() for g in gradients]
    assert measured.rms == pytest.approx(rms, rel=1e-12)
    assert measured.gradient_norm == pytest.approx(norms, rel=1e-9)


def test_frozen_network_and_no_grad():
    """In training mode: running statistics far from the batch's would show in evaluation mode."""
    net = build(NetSpec(depth=8))
    expected = signal(net, batch())
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_var.fill_(100)
    with torch.no_grad():
        assert signal(net.requires_grad_(False).eval(), batch()) == expected


def test_small_gradients_do_not_vanish_in_the_norm():
    """Elements of 1e-25 have squares below the least float32 (1e-45)."""
    net = build(NetSpec(depth=8))
    nn.init.constant_(net.fc.weight, 0)
    nn.init.constant_(net.fc.weight[0], 1e-25)
    assert 1e-28 < signal(net, batch()).gradient_norm[-1] < 1e-24


def test_gradient_of_a_plain_net_grows_as_the_theory_says():
    """(1 / (1 - 1/pi)) ** (18 / 2) = 31 for 18 wide layers; 25 with 16 to 64 channels."""
    assert signal(NetSpec(shortcut="none"), batch(16, 32)).gradient_ratio == pytest.approx(31, rel=0.5)


# Nothing is changed


@pytest.mark.parametrize("training", [True, False])
def test_model_and_generator_are_left_as_they_were(training):
    net = build(NetSpec(depth=8, shortcut="dropout")).train(training)
    net(batch()).sum().backward()
    net.stages[0].eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = [p.grad.clone() for p in net.parameters()]
    modes = [m.training for m in net.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    images = batch()
    generator = torch.get_rng_state()
    signal(net, images)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not images.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert [m.training for m in net.modules()] == modes
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()] == hooks


def test_specification_is_built_from_the_seed_alone():
    spec = NetSpec(depth=8, shortcut="dropout")
    torch.manual_seed(1)
    generator = torch.get_rng_state()
    first = signal(spec, batch())
    assert torch.equal(torch.get_rng_state(), generator)
    torch.manual_seed(2)
    assert signal(spec, batch()) == first
    assert signal(spec, batch(), seed=1) != first
    torch.manual_seed(0)
    assert signal(build(spec), batch()).rms[0] == first.rms[0]  # seed 0 is the default
    double = signal(spec, batch().double())  # in the precision of the images
    assert double.rms != first.rms
    assert double.rms[0] == pytest.approx(first.rms[0], rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_network_can_be_measured(data):
    spec = data.draw(specs())
    side = spec.image_size if spec.family == "article" else 2 * spec.min_image_size
    measured = signal(spec, batch(3, side, channels=spec.in_channels))
    assert len(measured.rms) == len(measured.gradient_norm) == sum(spec.blocks) + 1
    assert all(map(math.isfinite, measured.rms + measured.gradient_norm))
    assert measured.verdict.count(". ") == 0


def test_verdict_of_closed_form_and_measurement():
    """The measured gradient can take back what the closed form allows, not the other way round."""
    measured = {"rms": (1.0,) * 10, "spec": NetSpec()}
    assert Signal(gradient_norm=(2.0,) * 10, **measured).reaches_first_unit
    for first in (1e-9, 1e9, math.inf, math.nan):
        found = Signal(gradient_norm=(first,) + (2.0,) * 9, **measured)
        assert not found.reaches_first_unit
        assert found.verdict.startswith("The signal does not reach the first unit intact: 9 shortcuts multiply it by 1")
    assert math.isnan(Signal(gradient_norm=(0.0,) * 10, **measured).gradient_ratio)
    halved = NetSpec(depth=110, shortcut="constant_scaling")
    found = Signal(halved, rms=(1.0,) * 55, gradient_norm=(1.0,) * 55)
    assert not found.reaches_first_unit
    assert "54 shortcuts multiply it by 5.6e-17" in found.verdict
    assert "108 layers" in found.verdict


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 8, 8), None, r"images \(2, 1, 8, 8\) .* shape \(n, 3, height, width\)"),
        (torch.zeros(3, 8, 8), None, r"images \(3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), None, "torch.uint8 .* give floating point"),
        (torch.zeros(1, 3, 8, 8), None, "images are 1; give at least 2"),
        (torch.zeros(2, 3, 3, 3), None, "image size 3x3"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([0]), r"labels \(1,\) .* give 2 integers from 0 to 9"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([0, 10]), "from 0 to 9"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([-100, 0]), "from 0 to 9"),
    ],
)
def test_batches_that_are_none(images, labels, message):
    with pytest.raises(ValueError, match=message):
        signal(NetSpec(depth=8), images, labels)


def test_picture(tmp_path):
    measured = signal(NetSpec(depth=14), batch())
    figure = measured.plot()
    figure.savefig(tmp_path / "signal.png")
    forward, backward = figure.axes
    for axes, values in ((forward, measured.rms), (backward, measured.gradient_norm)):
        curve, *ends = axes.lines
        assert axes.get_yscale() == "log"
        assert list(curve.get_xdata()) == list(range(7))
        assert list(curve.get_ydata()) == list(values)
        assert [end.get_xdata()[0] for end in ends] == [2, 4]  # two units a stage
    assert figure.get_suptitle() == measured.verdict


def test_pictures_are_not_imported_before_they_are_drawn():
    program = "import sys; from resnet import signal; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
