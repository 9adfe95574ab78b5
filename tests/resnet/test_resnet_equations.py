"""The equations of 1603.05027 on networks as they are built: float64, normalisation with fixed statistics.

docs/equations.md says which equation of the article is which, and names the tests of the gradient over 54 units.
"""

from itertools import pairwise
from math import prod

import pytest
import torch
from torch import nn

from resnet import NetSpec, build
from resnet.residual import Residual

IMAGES = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
L = 5  # units in a chain: those of stage 1 at depth 32, numbered from 0


def network(**fields):
    """Float64, eval mode, depth 32, four channels; every gamma, beta, mean and variance of BN is drawn."""
    torch.manual_seed(0)
    net = build(NetSpec(**{"depth": 32, "width": 0.25, **fields})).double().eval()
    for bn in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(bn.weight, 0.5, 1.5)
        nn.init.normal_(bn.bias, std=0.3)
        nn.init.normal_(bn.running_mean, std=0.3)
        nn.init.uniform_(bn.running_var, 0.5, 1.5)
    return net


def chain(net, stage=0):
    """The units of one stage that keep the dimension, and x_l, x_{l+1}, ..., x_L as the network computes them."""
    units = [m for m in net.stages[stage] if isinstance(m, Residual)][min(stage, 1) :]
    x = []
    handles = [units[0].register_forward_pre_hook(lambda _m, inputs: x.append(inputs[0].clone()))]
    handles += [unit.register_forward_hook(lambda _m, _x, output: x.append(output.clone())) for unit in units]
    with torch.no_grad():
        net(IMAGES)
    for handle in handles:
        handle.remove()
    return units, x


def difference(a, b):
    """Greatest difference of two signals, as a share of the greatest element."""
    return ((a - b).abs().max() / a.abs().max()).item()


def residuals(units, x, scales):
    """The sum of Eqn. 7, from x_l: each F(x_i) times the scales of the units behind it."""
    total = torch.zeros_like(x)
    for i, unit in enumerate(units):
        F = unit.F(x)
        total = total + prod(scales[i + 1 :]) * F
        x = scales[i] * x + F
    return total


@torch.no_grad()
@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("version", ["v2", "relu_only_preact", "relu_before_add"])  # nothing after the sum
def test_eqn4_sum_of_residuals_runs_from_l(version, stage):
    """1603.05027, Eqn. 4: the sum runs from l; from 1, as the article has it, it counts terms that x_l contains."""
    units, x = chain(network(version=version), stage)
    F = [unit.F(signal) for unit, signal in zip(units, x, strict=False)]
    for start in range(len(units)):
        assert difference(x[-1], x[start] + sum(F[start:])) < 1e-12
    assert difference(x[-1], x[3] + sum(F[1:])) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_eqn4_is_off_in_v1_by_what_relu_cuts_off(stage):
    """1603.05027, Sec. 4: with f = ReLU, Eqn. 4 is off by the negative parts of the sums y_l."""
    units, x = chain(network(version="v1"), stage)
    F = [unit.F(signal) for unit, signal in zip(units, x, strict=False)]
    cut = [(signal + residual).clamp(max=0) for signal, residual in zip(x, F, strict=False)]
    for start in range(len(units)):
        assert difference(x[-1], x[start] + sum(F[start:])) > 1e-3
        assert difference(x[-1], x[start] + sum(F[start:]) - sum(cut[start:])) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_eqn4_holds_in_v1_when_no_sum_is_negative(stage):
    """1603.05027, Sec. 4.2: f acts on positive sums as an identity."""
    net = network(version="v1")
    for unit in (m for m in net.modules() if isinstance(m, Residual)):  # small F, large beta
        nn.init.constant_(unit.F[-1].weight, 0.05)
        nn.init.constant_(unit.F[-1].bias, 5)
    units, x = chain(net, stage)
    F = [unit.F(signal) for unit, signal in zip(units, x, strict=False)]
    assert min((signal + residual).min() for signal, residual in zip(x, F, strict=False)) > 0
    assert difference(x[-1], x[0] + sum(F)) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_relu_before_add_is_monotonic(stage):
    """1603.05027, Sec. 4.1: F is not negative, so that the forward signal is monotonic; that of v2 is free."""
    for version, monotonic in (("relu_before_add", True), ("v2", False)):
        _, x = chain(network(version=version), stage)
        steps = torch.stack([after - before for before, after in pairwise(x)])
        assert (steps.min() >= 0) == monotonic
        assert steps.max() > 1e-3


def check_gradient(net, start, scales):
    """dE/dx_l = dE/dx_L (prod scales + d/dx_l sum): by autograd of the network and by central differences."""
    units, x = chain(net)
    path = [m for stage in net.stages for m in stage]
    rest = nn.Sequential(*path[len(units) :], *net.end, net.fc)
    x_l = x[start].requires_grad_()
    x_L = nn.Sequential(*units[start:])(x_l)

    def loss(x_l):
        return nn.functional.cross_entropy(rest(nn.Sequential(*units[start:])(x_l)), torch.tensor([0, 1]))

    (at_l,) = torch.autograd.grad(loss(x_l), x_l)
    (at_L,) = torch.autograd.grad(nn.functional.cross_entropy(rest(x_L), torch.tensor([0, 1])), x_L)
    (through_F,) = torch.autograd.grad(residuals(units[start:], x_l, scales[start:]), x_l, at_L)
    gain = prod(scales[start:])
    torch.testing.assert_close(at_l, gain * at_L + through_F, rtol=1e-10, atol=1e-14)
    assert difference(at_l, gain * at_L) > 1e-2  # the sum matters

    with torch.no_grad():
        direction, step = torch.randn_like(x_l), 1e-6
        ahead, behind = x_l + step * direction, x_l - step * direction
        slope = (loss(ahead) - loss(behind)) / (2 * step)
        slopes = [residuals(units[start:], x, scales[start:]) for x in (ahead, behind)]
        by_formula = (at_L * (gain * direction + (slopes[0] - slopes[1]) / (2 * step))).sum()
    assert slope.item() == pytest.approx((at_l * direction).sum().item(), rel=1e-6)
    assert slope.item() == pytest.approx(by_formula.item(), rel=1e-6)


@pytest.mark.parametrize("start", range(L))
def test_eqn5_gradient_is_that_behind_plus_the_path_through_f(start):
    """1603.05027, Eqn. 5."""
    check_gradient(network(version="v2"), start, [1.0] * L)


@pytest.mark.parametrize("start", range(L))
def test_eqn8_gradient_with_scaled_shortcuts(start):
    """1603.05027, Eqn. 8."""
    net = network(version="v2", shortcut="constant_scaling", shortcut_scale=0.7, residual_scale=0.9)
    check_gradient(net, start, [0.7] * L)


@torch.no_grad()
@pytest.mark.parametrize(("on_h", "on_F"), [(0.5, 1.0), (0.5, 0.5), (1.3, 1.0), (-0.8, 0.3), (0.0, 1.0)])
def test_eqn7_one_scale(on_h, on_F):
    """1603.05027, Eqn. 7, with one scale for all units; F itself is scaled too (Sec. 3.1)."""
    net = network(version="v2", shortcut="constant_scaling", shortcut_scale=on_h, residual_scale=on_F)
    units, x = chain(net)
    F = [on_F * unit.F[:-1](signal) for unit, signal in zip(units, x, strict=False)]  # its last module is the scale
    for start in range(L):
        expected = on_h ** (L - start) * x[start] + sum(on_h ** (L - 1 - i) * F[i] for i in range(start, L))
        assert difference(x[-1], expected) < 1e-12


@torch.no_grad()
def test_eqn7_a_scale_for_each_unit():
    """1603.05027, Eqn. 7: the product is of lambda_i, and behind F(x_i) it starts at i + 1; the article has neither."""
    net = network(version="v2", shortcut="constant_scaling", residual_scale=1)
    scales = [0.6, 1.4, 0.9, 1.2, 0.7]
    for unit, scale in zip(net.stages[0], scales, strict=True):
        unit.h[-1].factor = scale
    units, x = chain(net)
    F = [unit.F(signal) for unit, signal in zip(units, x, strict=False)]
    for start in range(L):
        summed = sum(prod(scales[i + 1 :]) * F[i] for i in range(start, L))
        assert difference(x[-1], prod(scales[start:]) * x[start] + summed) < 1e-12
    start = 1
    summed = sum(prod(scales[i + 1 :]) * F[i] for i in range(start, L))
    assert difference(x[-1], scales[start] ** (L - start) * x[start] + summed) > 1e-3  # lambda_l
    from_l = sum(prod(scales[start:]) * F[i] for i in range(start, L))
    assert difference(x[-1], prod(scales[start:]) * x[start] + from_l) > 1e-3  # both products from l


def gradient_ratio(shortcut, scale):
    """|dE/dx_l| / |dE/dx_L| over a stage of which all weights are scaled; BN does not shift."""
    torch.manual_seed(0)
    net = build(NetSpec(depth=32, width=0.25, version="v2", shortcut=shortcut)).double().eval()
    with torch.no_grad():
        for layer in (m for m in net.modules() if isinstance(m, nn.Conv2d)):
            layer.weight *= scale
    x_l = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    x_L = net.stages[0](x_l)
    at_L = torch.randn_like(x_L)
    (at_l,) = torch.autograd.grad(x_L, x_l, at_L)
    return (at_l.norm() / at_L.norm()).item()


def test_eqn5_gradient_does_not_vanish_with_small_weights():
    """1603.05027, Sec. 2, of Eqn. 5: "even when the weights are arbitrarily small".

    F has two convolutions: its part of the gradient falls with the square of their scale. In the plain net the ten
    convolutions of the five units multiply.
    """
    scales = [1, 0.1, 0.01, 0.001]
    plain = [gradient_ratio("none", scale) for scale in scales]
    assert plain == pytest.approx([plain[0] * scale ** (2 * L) for scale in scales], rel=1e-9)
    excess = [abs(gradient_ratio("identity", scale) - 1) for scale in scales]
    assert excess[2] / excess[3] == pytest.approx(100, rel=0.05)
    assert excess[3] < 1e-5


def by_hand(net, *, symmetric):
    """Logits from the branches of a network whose f stands after the sum, with f moved in front of them.

    Symmetric: both branches read f(y_l), Fig. 5(a). Asymmetric: the identity reads y_l, Fig. 5(b).
    """
    y, f = net.stem(IMAGES), nn.Identity()
    for unit in (unit for stage in net.stages for unit in stage):
        activated = f(y.clone())  # f writes in place
        kept = isinstance(unit.h, nn.Identity) and not symmetric
        y, f = (y if kept else unit.h(activated)) + unit.F(activated), unit.f
    return net.fc(f(y).mean((2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("version", ["v1", "bn_after_add"])
def test_f_after_the_sum_acts_on_both_branches(version):
    """1603.05027, Sec. 4.1, before Eqn. 9: y_{l+1} = f(y_l) + F(f(y_l))."""
    net = network(version=version)
    torch.testing.assert_close(net(IMAGES), by_hand(net, symmetric=True), rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(("after", "before"), [("v1", "relu_only_preact"), ("bn_after_add", "v2")])
def test_eqn9_f_hat_makes_the_preactivation_unit(after, before):
    """1603.05027, Eqn. 9 and Fig. 5: y_{l+1} = y_l + F(f^(y_l)) is the pre-activation unit, with the same weights."""
    net, preactivated = network(version=after), network(version=before)
    tensors = net.state_dict().values()  # both versions use them in one order
    preactivated.load_state_dict(dict(zip(preactivated.state_dict(), tensors, strict=True)))
    asymmetric = by_hand(net, symmetric=False)
    torch.testing.assert_close(preactivated(IMAGES), asymmetric, rtol=1e-12, atol=1e-12)
    assert difference(net(IMAGES), asymmetric) > 1e-3
