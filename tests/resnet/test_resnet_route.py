"""Closed forms: whether the signal can reach the first unit before training."""

import math

import pytest
import torch

from resnet import NetSpec, Version, reaches_first_unit, shortcut_gain
from resnet.route import branch_gain
from tests.support.networks import PAPERS, batch, silenced, units

CLAIMS = {row["claim"]: row["observed"] for row in PAPERS["article_claims_checked"] if "observed" in row}
LAMBDAS = {float(x): gain for x, gain in CLAIMS["product of lambdas over the 54 units of ResNet-110"].items()}
GATED = ("exclusive_gate", "shortcut_only_gate")
GATES = {float(b): row["prod_54_units"] for b, row in CLAIMS["gate initialisation"].items()}


def scaled(factor, **fields):
    return NetSpec(**{"depth": 110, "shortcut": "constant_scaling", "shortcut_scale": factor} | fields)


def gated(shortcut, bias, **fields):
    return NetSpec(depth=110, shortcut=shortcut, gate_bias=bias, **fields)


@pytest.mark.parametrize(
    ("spec", "gain"),
    [(scaled(factor), gain) for factor, gain in LAMBDAS.items()]
    + [(gated(kind, bias), gain) for bias, gain in GATES.items() for kind in GATED],
)
def test_products_over_54_units(spec, gain):
    assert shortcut_gain(spec) == pytest.approx(gain, rel=1e-12)


@pytest.mark.parametrize(
    ("fields", "gain"),
    [
        ({}, 1),
        ({"depth": 1202, "version": "v2"}, 1),
        ({"family": "imagenet", "depth": 152}, 1),
        ({"family": "article"}, 1),
        ({"shortcut": "none"}, 0),
        ({"shortcut": "conv1x1"}, None),
        ({"depth": 8, "shortcut": "dropout", "dropout": 0.25}, 0.421875),  # 0.75 ** 3
        ({"depth": 11, "unit": "bottleneck", "shortcut": "constant_scaling", "shortcut_scale": -2}, -8),  # 3 units
        ({"family": "imagenet", "depth": 50, "shortcut": "constant_scaling"}, 2**-16),  # 3 + 4 + 6 + 3 units
    ],
)
def test_closed_form(fields, gain):
    assert shortcut_gain(NetSpec(**fields)) == gain


def test_closed_form_beyond_the_range_of_a_float():
    deep = {"depth": 9998, "unit": "single"}  # 3,332 units
    assert shortcut_gain(NetSpec(shortcut="constant_scaling", shortcut_scale=2, **deep)) == math.inf
    assert shortcut_gain(NetSpec(shortcut="constant_scaling", shortcut_scale=0.5, **deep)) == 0
    for bias, gain in ((1000, 0), (-1000, 1)):
        assert shortcut_gain(NetSpec(shortcut="exclusive_gate", gate_bias=bias, **deep)) == gain
    one_unit_of_three = math.exp(-40) / (1 + math.exp(-40))  # 1 - sigmoid(40) would round to 0
    assert shortcut_gain(NetSpec(depth=8, shortcut="exclusive_gate", gate_bias=40)) == pytest.approx(
        one_unit_of_three**3, rel=1e-12
    )


# Closed forms against autograd: with F = 0 only the shortcut carries the gradient


def direct_gradients(spec, side=8):
    """d sum(x_L) / dx_0 of a silenced v2 net at its 16 channels and at the pixels that both strides keep; the rest."""
    net = silenced(spec)
    x_0 = batch(side=side, channels=16, dtype=torch.float64).requires_grad_()
    x = x_0
    for unit in units(net):  # without the activations before the split: shortcuts alone
        x = unit(x)
    (gradient,) = torch.autograd.grad(x.sum(), x_0)
    kept = gradient[:, :, ::4, ::4].clone()
    gradient[:, :, ::4, ::4] = 0
    return kept, gradient


@pytest.mark.parametrize("factor", [0.5, 0.9, 2.0])
def test_gradient_of_110_layers_is_the_product_of_lambdas(factor):
    kept, dropped = direct_gradients(scaled(factor, version="v2"))
    torch.testing.assert_close(kept, torch.full_like(kept, LAMBDAS[factor]), rtol=1e-12, atol=0)
    assert not dropped.any()  # pixels that a stride leaves out


@pytest.mark.parametrize("bias", [0.0, -6.0, -7.0])
@pytest.mark.parametrize("shortcut", GATED)
def test_gradient_of_110_layers_is_the_product_of_gates(shortcut, bias):
    kept, _ = direct_gradients(gated(shortcut, bias, version="v2"))
    torch.testing.assert_close(kept, torch.full_like(kept, GATES[bias]), rtol=1e-12, atol=0)


# The verdict

HALF = {"shortcut": "constant_scaling", "residual_scale": 1, "shortcut_scale": 0.5}
CLOSED = {"depth": 20, "shortcut": "constant_scaling", "shortcut_scale": 0.1}  # 1e-9
REACHES = [
    # 1603.05027, Tables 1 and 2, depth 110: 6.37 to 9.81 %, 12.22 % for the 1x1 convolutions
    *({"version": version} for version in Version),
    *({"shortcut": "exclusive_gate", "gate_bias": bias} for bias in (-6, -7)),
    {"shortcut": "shortcut_only_gate", "gate_bias": -6},
    {"shortcut": "conv1x1"},
    # plain nets: 1512.03385, Fig. 6: worse with depth, but trained; Table 2: 27.94 and 28.54 %
    *({"shortcut": "none", "depth": depth} for depth in (20, 32, 44, 56)),
    *({"shortcut": "none", "family": "imagenet", "depth": depth} for depth in (18, 34)),
    *(scaled(factor, depth=44) for factor in (2, -2)),  # 2^21
    scaled(-1, depth=116),  # (-1)^57; 114 layers are too many without shortcuts
    scaled(0.5, depth=86),  # 2^-42; through 84 layers 1.467^42 = 9.8e6 < 2^24
    CLOSED | {"residual_scale": 1},
]
LOST = [
    # 1603.05027, Table 1: "fail", an error of more than 20 %
    HALF | {"shortcut_scale": 0},
    HALF,
    {"shortcut": "exclusive_gate", "gate_bias": 0},
    {"shortcut": "dropout", "dropout": 0.5},
    {"shortcut": "none"},  # 1512.03385, Fig. 6: an error of more than 60 %
    *(scaled(factor, depth=56) for factor in (2, -2)),  # 2^27
    scaled(0.5, depth=92),  # 2^-45; through 90 layers 1.467^45 = 3.1e7
    CLOSED | {"residual_scale": 0},
]


@pytest.mark.parametrize(
    ("net", "reaches"), [*((net, True) for net in REACHES), *((net, False) for net in LOST)], ids=str
)
def test_networks_that_trained_and_that_failed(net, reaches):
    """In the papers' tables; and at the limits of the closed forms."""
    spec = net if isinstance(net, NetSpec) else NetSpec(**{"depth": 110} | net)
    assert reaches_first_unit(spec) == reaches


@pytest.mark.parametrize(
    ("unit", "depth", "growth"), [("single", 11, 5.608), ("basic", 20, 31.450), ("bottleneck", 11, 5.608)]
)
def test_growth_through_residual_branches(unit, depth, growth):
    """(pi / (pi - 1)) ** (n / 2) of n = 9, 18, 9 layers."""
    assert branch_gain(NetSpec(unit=unit, depth=depth)) == pytest.approx(growth, rel=1e-3)
