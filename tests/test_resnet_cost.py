"""Parameters, multiply-accumulates and activation memory against figures from outside."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from resnet import NetSpec, Shortcut, Unit, Version, build, cost, create_model, list_models, name_of, named
from resnet.cost import count

PAPERS = json.loads((Path(__file__).parent / "data" / "papers_cifar.json").read_text())
OPTIONS = {
    "none": {"shortcut": "none"},
    "A": {"downsample": "zero_pad"},
    "B": {"downsample": "projection"},
    "C": {"shortcut": "conv1x1"},
}


def spec_of(row):
    stride = {"stride_on": f"conv{row['stride_on']}"} if "stride_on" in row else {}
    return NetSpec(
        depth=row["depth"],
        unit=row["block"],
        version=f"v{row['version']}",
        num_classes=row["classes"],
        **OPTIONS[row["shortcut"]],
        **stride,
    )


def row_id(row):
    return (
        f"{row['network']}-{row['block']}-v{row['version']}-{row['shortcut']}-{row['classes']}-{row.get('stride_on')}"
    )


@pytest.mark.parametrize("row", PAPERS["derived_cifar"], ids=row_id)
def test_counts_to_the_unit(row):
    counted = cost(spec_of(row))
    assert (counted.params, counted.macs) == (row["params"], row["macs"])


@pytest.mark.parametrize("row", [r for r in PAPERS["derived_cifar"] if r["depth"] == 20], ids=row_id)
def test_the_built_network_has_the_parameters(row):
    with torch.device("meta"):
        net = build(spec_of(row))
    assert sum(p.numel() for p in net.parameters()) == row["params"]


@pytest.mark.parametrize("row", PAPERS["v1_cifar10_table6"], ids=lambda row: row["network"])
def test_published_parameters(row):
    published = row["params_published"].removesuffix("M")  # "0.27M": as many decimals as the paper prints
    decimals = len(published.partition(".")[2])
    assert f"{cost(named(row['network'].replace('-', '').lower())).params / 1e6:.{decimals}f}" == published


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("shortcut", Shortcut)
def test_macs_agree_with_torch(version, shortcut):
    spec = NetSpec(depth=8, version=version, shortcut=shortcut, in_channels=1, num_classes=7)
    with torch.device("meta"), FlopCounterMode(display=False) as flops:
        build(spec).eval()(torch.empty(1, 1, 28, 20))
    assert flops.get_total_flops() == 2 * cost(spec, (28, 20)).macs  # torch counts the addition too


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("shortcut", [Shortcut.IDENTITY, Shortcut.EXCLUSIVE_GATE, Shortcut.DROPOUT])
def test_cost_of_a_depth_is_that_of_the_whole_network_traced(unit, shortcut):
    spec = NetSpec(unit=unit, depth=38, shortcut=shortcut)  # 6*6+2, 9*4+2, 3*12+2
    assert cost(spec, 16) == count(spec, 16, 16)


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


def test_names_of_the_papers():
    assert list_models("resnet*") == [
        "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202", "resnet164", "resnet1001"
    ]  # fmt: skip
    assert list_models("preact_*") == [f"preact_resnet{depth}" for depth in (20, 32, 44, 56, 110, 164, 1001)]
    assert list_models("plain*") == [f"plain{depth}" for depth in (20, 32, 44, 56, 110)]
    assert len(list_models()) == 20


def test_names_there_and_back():
    for name in list_models():
        assert name_of(named(name)) == name
        assert name_of(named(name, num_classes=100, in_channels=1)) == name
    assert name_of(NetSpec(depth=26)) is None
    assert name_of(named("resnet56", downsample="projection")) is None


def test_create_model():
    net = create_model("preact_resnet20", num_classes=100)
    assert sum(p.numel() for p in net.parameters()) == 275572  # derived: 20 v2 A, 100 classes
    with pytest.raises(ValueError, match=r"^network 'resnet21' is unknown; did you mean"):
        create_model("resnet21")
    with pytest.raises(ValueError, match="net depth 21 is not 6n"):
        create_model("resnet20", depth=21)
