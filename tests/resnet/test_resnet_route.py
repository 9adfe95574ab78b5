"""Closed forms: whether the signal can reach the first unit before training."""

import json
import math
from pathlib import Path

import pytest
import torch

from resnet import NetSpec, reaches_first_unit, shortcut_gain
from resnet.route import branch_gain
from tests.support.networks_signal import batch, silenced, units

PAPERS = json.loads((Path(__file__).parents[1] / "support" / "papers.json").read_text())
CLAIMS = {row["claim"]: row["observed"] for row in PAPERS["article_claims_checked"] if "observed" in row}
LAMBDAS = {float(x): gain for x, gain in CLAIMS["product of lambdas over the 54 units of ResNet-110"].items()}
GATES = {float(b): row["prod_54_units"] for b, row in CLAIMS["gate initialisation"].items()}


def scaled(factor, **fields):
    return NetSpec(depth=110, shortcut="constant_scaling", shortcut_scale=factor, **fields)


@pytest.mark.parametrize(("factor", "gain"), LAMBDAS.items())
def test_product_of_lambdas(factor, gain):
    assert shortcut_gain(scaled(factor)) == pytest.approx(gain, rel=1e-13)


@pytest.mark.parametrize("shortcut", ["exclusive_gate", "shortcut_only_gate"])
@pytest.mark.parametrize(("bias", "gain"), GATES.items())
def test_product_of_gates(shortcut, bias, gain):
    assert shortcut_gain(NetSpec(depth=110, shortcut=shortcut, gate_bias=bias)) == pytest.approx(gain, rel=1e-12)


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
@pytest.mark.parametrize("shortcut", ["exclusive_gate", "shortcut_only_gate"])
def test_gradient_of_110_layers_is_the_product_of_gates(shortcut, bias):
    kept, _ = direct_gradients(NetSpec(depth=110, version="v2", shortcut=shortcut, gate_bias=bias))
    torch.testing.assert_close(kept, torch.full_like(kept, GATES[bias]), rtol=1e-12, atol=0)


# The verdict

TRAINED = [{}, *({"version": v} for v in ("bn_after_add", "relu_before_add", "relu_only_preact", "v2"))]
TRAINED += [{"shortcut": "exclusive_gate", "gate_bias": b} for b in (-6, -7)]
TRAINED += [{"shortcut": "shortcut_only_gate", "gate_bias": -6}, {"shortcut": "conv1x1"}]


@pytest.mark.parametrize("fields", TRAINED)
def test_networks_of_the_tables_that_trained(fields):
    """1603.05027, Tables 1 and 2, depth 110: 6.37 to 9.81 %, 12.22 % for the 1x1 convolutions."""
    assert reaches_first_unit(NetSpec(depth=110, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"shortcut": "none"},
        {"shortcut": "constant_scaling", "shortcut_scale": 0, "residual_scale": 1},
        {"shortcut": "constant_scaling", "shortcut_scale": 0.5, "residual_scale": 1},
        {"shortcut": "exclusive_gate", "gate_bias": 0},
        {"shortcut": "dropout", "dropout": 0.5},
    ],
)
def test_networks_of_the_tables_that_failed(fields):
    """1603.05027, Table 1: "fail", an error of more than 20 %."""
    assert not reaches_first_unit(NetSpec(depth=110, **fields))


@pytest.mark.parametrize(
    ("fields", "reaches"),
    [
        *(({"depth": depth}, True) for depth in (20, 32, 44, 56)),  # 1512.03385, Fig. 6: worse with depth, but trained
        ({"depth": 110}, False),  # Fig. 6: an error of more than 60 %
        *(({"family": "imagenet", "depth": depth}, True) for depth in (18, 34)),  # Table 2: 27.94 and 28.54 %
    ],
)
def test_plain_nets_by_depth(fields, reaches):
    assert reaches_first_unit(NetSpec(shortcut="none", **fields)) == reaches


@pytest.mark.parametrize(
    ("factor", "depth", "reaches"),
    [
        (2, 44, True),  # 2^21
        (-2, 44, True),
        (-1, 116, True),  # (-1)^57; 114 layers are too many without shortcuts
        (2, 56, False),  # 2^27
        (-2, 56, False),
        (0.5, 86, True),  # 2^-42; through 84 layers 1.467^42 = 9.8e6 < 2^24
        (0.5, 92, False),  # 2^-45; through 90 layers 1.467^45 = 3.1e7
    ],
)
def test_limits(factor, depth, reaches):
    assert reaches_first_unit(scaled(factor).model_copy(update={"depth": depth})) == reaches


def test_without_residual_branches_the_shortcut_decides():
    closed = {"depth": 20, "shortcut": "constant_scaling", "shortcut_scale": 0.1}  # 1e-9
    assert reaches_first_unit(NetSpec(residual_scale=1, **closed))
    assert not reaches_first_unit(NetSpec(residual_scale=0, **closed))


@pytest.mark.parametrize(
    ("unit", "depth", "growth"), [("single", 11, 5.608), ("basic", 20, 31.450), ("bottleneck", 11, 5.608)]
)
def test_growth_through_residual_branches(unit, depth, growth):
    """(pi / (pi - 1)) ** (n / 2) of n = 9, 18, 9 layers."""
    assert branch_gain(NetSpec(unit=unit, depth=depth)) == pytest.approx(growth, rel=1e-3)
