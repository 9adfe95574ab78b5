"""Gates and dropout at their limits, on whole networks: float64, the same weights, no sigmoid short of 0 or 1."""

import pytest
import torch
from torch import nn

from resnet import NetSpec, build

IMAGES = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
CLOSED, OPEN = -1000.0, 1000.0  # biases: sigmoid is 0 and 1 in float64, whatever W_g adds


def network(version, shortcut, **fields):
    """Float64, eval mode, with every beta of BN drawn."""
    torch.manual_seed(0)
    net = build(NetSpec(depth=14, width=0.25, version=version, shortcut=shortcut, **fields)).double().eval()
    for bn in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(bn.bias, std=0.3)
    return net


def with_weights_of(net, gated):
    """`net` with the weights of a network that has gates beside them."""
    net.load_state_dict({name: tensor for name, tensor in gated.state_dict().items() if ".gate." not in name})
    return net


def assert_same(net, other):
    torch.testing.assert_close(net(IMAGES), other(IMAGES), rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_closed_exclusive_gates_leave_the_shortcuts_only(version):
    """1603.05027, Sec. 3.1: g -> 0 makes 1 - g approach 1 and suppresses F; by hand, zero padding is all that is left.

    BN's statistics are 0 and 1, so the head of v2 is ReLU(gamma x / sqrt(1 + 1e-5) + beta).
    """
    net = network(version, "exclusive_gate", gate_bias=CLOSED)
    stem = net.stem(IMAGES)
    kept = torch.zeros(2, 16, 2, 2, dtype=torch.float64)
    kept[:, :4] = stem[:, :, ::4, ::4]
    if version == "v2":  # of stem and head, and of the shared activations before stages 2 and 3
        shared = [net.stages[1][0], net.stages[2][0]]
        kept = stem
        for bn in shared:
            kept = activated(bn, kept)[:, :, ::2, ::2]
            kept = torch.cat([kept, torch.zeros_like(kept)], 1)
        kept = activated(net.end[0], kept)
    torch.testing.assert_close(net(IMAGES), kept.mean((2, 3)) @ net.fc.weight.T + net.fc.bias, rtol=1e-12, atol=1e-12)


def activated(bn, x):
    """ReLU(BN(x)) with mean 0 and variance 1."""
    return (x * bn.weight[:, None, None] / (1 + 1e-5) ** 0.5 + bn.bias[:, None, None]).clamp(min=0)


@torch.no_grad()
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("shortcut", ["exclusive_gate", "shortcut_only_gate"])
def test_open_gates_make_the_plain_net(version, shortcut):
    """1603.05027, Sec. 3.1: g -> 1 stops the shortcut, F stays."""
    gated = network(version, shortcut, gate_bias=OPEN)
    assert_same(gated, with_weights_of(network(version, "none"), gated))


@torch.no_grad()
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_closed_shortcut_only_gates_make_the_original_net(version):
    """1603.05027, Sec. 3.1: 1 - g -> 1, an identity shortcut, and F is not scaled."""
    gated = network(version, "shortcut_only_gate", gate_bias=CLOSED)
    assert_same(gated, with_weights_of(network(version, "identity"), gated))


@torch.no_grad()
def test_dropout_leaves_few_paths_in_training_and_all_afterwards():
    """1603.05027, Sec. 3.1: like a scale on the shortcut.

    Without residual an element survives L units with probability (1 - p)^L, rescaled by 1 / (1 - p) in each.
    """
    dropped, rate, units = network("v2", "dropout", dropout=0.25), 0.25, 2
    assert_same(dropped, with_weights_of(network("v2", "identity"), dropped))
    stage = dropped.stages[0]
    assert len(stage) == units
    for p in stage.parameters():
        nn.init.zeros_(p)
    x = torch.randn(50, 4, 16, 16, dtype=torch.float64)  # 51,200 elements
    assert torch.equal(stage(x), x)
    kept = stage.train()(x)
    alive = kept != 0
    torch.testing.assert_close(kept[alive], x[alive] / (1 - rate) ** units)
    assert alive.double().mean().item() == pytest.approx((1 - rate) ** units, abs=0.01)  # standard error 0.0022
