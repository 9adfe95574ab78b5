"""The shortcuts: what each does to h and to F."""

import math

import pytest
import torch
from torch import nn

from resnet import NetSpec, Shortcut, build
from resnet.residual import ExclusiveGate, Plain, Residual, unit
from resnet.shortcut import Change, Gate, GatedShortcut, ZeroPad

SAME = Change(4, 4, 1)
HALVE = Change(4, 8, 2)


def one(change=SAME, **fields):
    """One v2 unit that does not open the net: nothing after the sum, so y = h(x) + F(x) can be read off."""
    torch.manual_seed(0)
    return unit(NetSpec(version="v2", **fields), change, first=False)[-1]


@pytest.fixture
def x():
    return torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))


def test_zero_padding_samples_and_appends():
    x = torch.arange(1.0, 19).reshape(1, 2, 3, 3)
    expected = torch.tensor([[[[1.0, 3], [7, 9]], [[10, 12], [16, 18]], [[0, 0], [0, 0]]]])
    assert torch.equal(ZeroPad(Change(2, 3, 2))(x), expected)


@pytest.mark.parametrize(("bias", "gain"), [(0.0, 0.5), (-6.0, 0.0024726)])  # sigmoid(0), sigmoid(-6)
@pytest.mark.parametrize("change", [SAME, HALVE])
def test_gate_opens_as_its_bias_says(bias, gain, change):
    gate = Gate(change, bias)
    g = gate(torch.zeros(1, 4, 6, 6))  # no input: the bias alone
    assert g.shape == (1, change.n_out, 6 // change.stride, 6 // change.stride)
    assert g.flatten().tolist() == pytest.approx([gain] * g.numel(), rel=1e-4)


def test_gate_bias_survives_initialisation():
    gates = [m for m in build(NetSpec(shortcut="exclusive_gate", gate_bias=-3)).modules() if isinstance(m, Gate)]
    assert len(gates) == 9  # one a unit
    assert all(torch.equal(gate.bias, torch.full_like(gate.bias, -3)) for gate in gates)


def test_exclusive_gate_scales_both(x):
    block = one(shortcut="exclusive_gate", gate_bias=-1)
    assert isinstance(block, ExclusiveGate)
    nn.init.zeros_(block.gate.conv.weight)
    g = 1 / (1 + math.e)  # sigmoid(-1)
    torch.testing.assert_close(block(x), (1 - g) * x + g * block.F(x))


def test_exclusive_gate_depends_on_the_element(x):
    block = one(shortcut="exclusive_gate")
    weight, bias = block.gate.conv.weight[:, :, 0, 0], block.gate.bias
    g = torch.sigmoid(torch.einsum("oc,ncij->noij", weight, x) + bias[:, None, None])
    torch.testing.assert_close(block(x), (1 - g) * x + g * block.F(x))


def test_shortcut_only_gate_leaves_the_residual(x):
    block = one(shortcut="shortcut_only_gate", gate_bias=-1)
    assert isinstance(block, Residual)
    assert isinstance(block.h, GatedShortcut)
    nn.init.zeros_(block.h.gate.conv.weight)
    torch.testing.assert_close(block(x), x * math.e / (1 + math.e) + block.F(x))


def test_constant_scaling_scales_both(x):
    plain = one()
    block = one(shortcut="constant_scaling", shortcut_scale=0.5, residual_scale=0.25)
    block.load_state_dict(plain.state_dict())
    torch.testing.assert_close(block(x), 0.5 * x + 0.25 * plain.F(x))


def test_dropout_touches_the_shortcut_only(x):
    block = one(shortcut="dropout", dropout=0.5)
    kept = block(x) - block.F(x)
    dropped = kept.abs() < 1e-6
    assert 0.3 < dropped.float().mean() < 0.7  # 288 elements: 0.5 +- 0.03
    torch.testing.assert_close(kept[~dropped], 2 * x[~dropped])  # inverted dropout keeps the mean
    block.eval()
    torch.testing.assert_close(block(x), x + block.F(x))
    net = build(NetSpec(shortcut="dropout", dropout=0.3))
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.3] * 9


def test_conv1x1_in_every_unit():
    net = build(NetSpec(shortcut="conv1x1"))
    kernels = [m.kernel_size for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert kernels.count((1, 1)) == 9
    assert kernels.count((3, 3)) == 19


def test_plain_net_adds_nothing(x):
    block = one(shortcut="none")
    assert isinstance(block, Plain)
    assert torch.equal(block(x), block.F(x))


@pytest.mark.parametrize("shortcut", [s for s in Shortcut if s not in (Shortcut.NONE, Shortcut.CONV1X1)])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_factors_act_on_the_shortcut_that_changed_dimension(shortcut, version):
    torch.manual_seed(0)
    *shared, block = unit(NetSpec(version=version, shortcut=shortcut, gate_bias=0), HALVE, first=False)
    x = nn.Sequential(*shared)(torch.randn(2, 4, 6, 6))
    appended = block.h(x)[:, 4:]
    assert appended.shape == (2, 4, 3, 3)
    assert not appended.any()  # zeros stay zeros under any factor
