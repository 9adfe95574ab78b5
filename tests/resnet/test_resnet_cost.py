"""Parameters, multiply-accumulates and activation memory against figures from outside."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnet import Family, NetSpec, Shortcut, Unit, Version, build, cost, named
from resnet.costs import count
from tests.support.networks import PAPERS, specs

OPTIONS = {
    "none": {"shortcut": "none"},
    "A": {"downsample": "zero_pad"},
    "B": {"downsample": "projection"},
    "C": {"shortcut": "conv1x1"},
}


def spec_of(row):
    stride = {"stride_on": f"conv{row['stride_on']}"} if "stride_on" in row else {}
    return NetSpec(
        family="cifar" if row in PAPERS["derived_cifar"] else "imagenet",
        depth=row["depth"],
        unit=row["block"],
        version=f"v{row['version']}",
        num_classes=row["classes"],
        **OPTIONS[row["shortcut"]],
        **stride,
    )


DERIVED = [
    *((row, spec_of(row), 32) for row in PAPERS["derived_cifar"]),
    *((row, spec_of(row), 224) for row in PAPERS["derived_imagenet"]),
    *((row, named(f"article_resnet_v{row['version']}"), 32) for row in PAPERS["article_derived"]),
]


@pytest.mark.parametrize(("row", "spec", "side"), DERIVED, ids=[str(spec) for _, spec, _ in DERIVED])
def test_counts_to_the_unit(row, spec, side):
    counted = cost(spec, side)
    assert (counted.params, counted.macs) == (row["params"], row["macs"])


@pytest.mark.parametrize("row", PAPERS["v1_cifar10_table6"], ids=lambda row: row["network"])
def test_published_parameters(row):
    published = row["params_published"].removesuffix("M")  # "0.27M": as many decimals as the paper prints
    decimals = len(published.partition(".")[2])
    assert f"{cost(named(row['network'].replace('-', '').lower())).params / 1e6:.{decimals}f}" == published


@pytest.mark.parametrize("row", PAPERS["imagenet_table1_flops"], ids=lambda row: row["network"])
def test_published_flops(row):
    """Table 1 has the authors' networks: option A in 18 and 34 layers, in the others the stride on the first 1x1.

    3.858 is cut to 3.8, the others are rounded.
    """
    spec = named(row["network"].replace("-", "").lower(), stride_on="conv1x1")
    if row["block_type"] == "basic":
        spec = spec.model_copy(update={"downsample": "zero_pad"})
    macs = cost(spec, 224).macs / 1e9
    assert spec.blocks == tuple(row["blocks"])
    published = math.floor(10 * macs) / 10 if row["network"] == "ResNet-50" else round(macs, 1)
    assert published == row["flops_published"]


def test_published_parameters_of_bottleneck_nets():
    """1603.05027, Table 4: 1.7M for ResNet-164; 10.2M for ResNet-1001, without the gamma and beta of BN."""
    assert f"{cost(named('preact_resnet164')).params / 1e6:.1f}" == "1.7"
    deep = named("preact_resnet1001")
    with torch.device("meta"):
        norms = [p for m in build(deep).modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    assert f"{(cost(deep).params - sum(p.numel() for p in norms)) / 1e6:.1f}" == "10.2"


@settings(max_examples=20, deadline=None)
@given(spec=specs())
def test_macs_of_any_network_agree_with_torch(spec):
    side = spec.image_size if spec.family is Family.ARTICLE else spec.min_image_size + 3
    with torch.device("meta"), FlopCounterMode(display=False) as flops:
        net = build(spec).eval()
        net(torch.empty(1, spec.in_channels, side, side))
    counted = cost(spec, side)
    assert flops.get_total_flops() == 2 * counted.macs
    assert sum(p.numel() for p in net.parameters()) == counted.params


WHOLE = [{"unit": unit, "depth": 38} for unit in Unit]  # 6*6+2, 9*4+2, 3*12+2
WHOLE += [{"depth": 38, "shortcut": "exclusive_gate"}]
WHOLE += [{"depth": 14, "shortcut": "dropout", "dropout": rate} for rate in (0.0, 0.1, 0.9)]
WHOLE += [{"depth": 14, "shortcut": "shortcut_only_gate", "gate_bias": bias} for bias in (-6.0, 2.0)]


@pytest.mark.parametrize("fields", WHOLE, ids=str)
def test_cost_is_that_of_the_whole_network_traced(fields):
    """Whatever the depth, the rate of dropout and the bias of gates, which `cost` does not look at one by one."""
    spec = NetSpec(**fields)
    assert cost(spec, 16) == count(spec, 16, 16)


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("shortcut", Shortcut)
@pytest.mark.parametrize("unit", Unit)
def test_both_devices_count_the_same(version, shortcut, unit):
    spec = NetSpec(depth=20, version=version, shortcut=shortcut, unit=unit)
    before = torch.get_rng_state()
    assert count(spec, 12, 8, "cpu") == count(spec, 12, 8, "meta")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_small_network_is_counted_without_torchs_compiler():
    program = "import sys; from resnet import NetSpec, cost; cost(NetSpec(depth=110)); sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_activation_memory_by_hand():
    """ResNet-20: the image; stem: input of BN, of the first unit; each convolution: inputs of BN and of what follows.

    ReLU writes in place of BN's output, and BN's output before the sum is not needed again.
    """
    maps = [(3, 32, 1), (16, 32, 2), (16, 32, 3 * 4), (32, 16, 3 * 4), (64, 8, 3 * 4)]  # channels, side, how many
    numbers = sum(channels * side**2 * copies for channels, side, copies in maps) + 64  # 64: into the classifier
    assert cost(NetSpec(depth=20)).activation_bytes == 4 * numbers


def test_cost_refuses_images_that_do_not_survive():
    with pytest.raises(ValueError, match="image size 3x3 does not survive"):
        cost(NetSpec(), 3)
