"""Weights of torchvision's networks: the same logits, and back to the bit."""

import math

import pytest
import torch
import torchvision
from torch import nn

from resnet import create_model, load_torchvision, to_torchvision

DEPTHS = (18, 34, 50, 101, 152)


def torchvision_net(depth, **options):
    """torchvision's network in float64 with every weight and statistic drawn, so that none stands at its default."""
    torch.manual_seed(depth)
    with torch.device("meta"):
        net = getattr(torchvision.models, f"resnet{depth}")(**options)
    net.double().to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 0.8)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.random_(1, 1000)
    nn.init.normal_(net.fc.bias)
    return net


def loaded(depth, theirs, **options):
    """Our network with torchvision's weights, in float64; NaN where nothing was loaded."""
    with torch.device("meta"):
        ours = create_model(f"resnet{depth}", **options)
    ours.double().to_empty(device="cpu")
    for tensor in ours.state_dict().values():
        tensor.fill_(math.nan if tensor.is_floating_point() else 0)
    load_torchvision(ours, theirs.state_dict())
    return ours


def difference(logits, expected):
    """The largest difference as a share of the largest logit."""
    return ((logits - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("depth", DEPTHS)
def test_there_and_back(depth):
    """The same logits; the same tensors under the same keys in the same order, which torchvision loads."""
    theirs = torchvision_net(depth).eval()
    ours = loaded(depth, theirs).eval()
    images = torch.randn(2, 3, 48, 40, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(images)
        assert difference(ours(images), expected) < 1e-10
    assert difference(expected[:1], expected[1:]) > 1e-3  # the logits tell images apart
    back, state = to_torchvision(ours), theirs.state_dict()
    assert list(back) == list(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())
    with torch.device("meta"):
        fresh = getattr(torchvision.models, f"resnet{depth}")()
    fresh.load_state_dict(back, strict=True, assign=True)


def test_a_training_step_equals_torchvisions():
    theirs = torchvision_net(18, num_classes=7)
    ours = loaded(18, theirs, num_classes=7)
    images, labels = torch.randn(3, 3, 48, 48, dtype=torch.float64), torch.arange(3)
    logits, expected = ours(images), theirs(images)
    assert difference(logits, expected) < 1e-10
    for net, answers in ((ours, logits), (theirs, expected)):
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        nn.functional.cross_entropy(answers, labels).backward()
        optimiser.step()
    torch.testing.assert_close(to_torchvision(ours), dict(theirs.state_dict()), rtol=1e-8, atol=1e-10)


def test_the_counts_of_batches_may_be_missing():
    """Files that torch before 0.4.1 wrote have none."""
    theirs = torchvision_net(18)
    old = {key: value for key, value in theirs.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert len(old) == 102  # 122 keys, 20 normalisations
    ours = create_model("resnet18").double()
    ours.stem[1].num_batches_tracked.fill_(5)
    load_torchvision(ours, old)
    back = to_torchvision(ours)
    assert all(torch.equal(back[key], value) for key, value in old.items())
    assert back["bn1.num_batches_tracked"] == 5


def test_the_model_keeps_its_dtype_and_its_own_memory():
    theirs = torchvision_net(18)
    ours = create_model("resnet18")
    load_torchvision(ours, theirs.state_dict())
    assert ours.fc.weight.dtype == torch.float32
    torch.testing.assert_close(ours.fc.weight, theirs.fc.weight.float(), rtol=0, atol=0)
    double = loaded(18, theirs)
    before = double.fc.bias.clone()
    nn.init.ones_(theirs.fc.bias)
    assert torch.equal(double.fc.bias, before)


@pytest.mark.parametrize(
    ("name", "fields", "given", "remedy"),
    [
        ("preact_resnet18", {}, "version 'v2'", "version=v1"),
        ("resnet34", {"version": "bn_after_add"}, "version 'bn_after_add'", "version=v1"),
        ("resnet50", {"stride_on": "conv1x1"}, "stride_on 'conv1x1'", "stride_on=conv3x3"),
        ("resnet18", {"downsample": "zero_pad"}, "downsample 'zero_pad'", "downsample=projection"),
        ("resnet18", {"shortcut": "dropout"}, "shortcut 'dropout'", "shortcut=identity"),
        ("resnet18", {"shortcut": "none"}, "shortcut 'none'", "shortcut=identity"),
        ("resnet18", {"width": 0.5}, "width 0.5", "width=1.0"),
        ("resnet20", {}, "family 'cifar'", "family=imagenet"),
        ("article_resnet_v1", {}, "family 'article'", "family=imagenet"),
    ],
)
def test_networks_that_torchvision_has_not_are_refused(name, fields, given, remedy):
    model = create_model(name, **fields)
    sentence = f"^net {given} does not exist in torchvision; build the network with {remedy}$"
    with pytest.raises(ValueError, match=sentence):
        to_torchvision(model)
    with pytest.raises(ValueError, match=sentence):
        load_torchvision(model, {})


DOWN, OTHER = "layer3.0.downsample.1.running_var", "layer1.2.conv1.weight"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({DOWN: None}, f"has no key {DOWN!r}; .*resnet18"),
        ({"conv1.weight": None, "module.conv1.weight": (64, 3, 7, 7)}, "has no key 'conv1.weight'; .*resnet18"),
        ({OTHER: (3,)}, f"key {OTHER!r} is none of the network's; .*resnet18"),
        ({"fc.weight": (10, 512)}, r"key 'fc.weight' has shape \(10, 512\), .* is \(1000, 512\); .*num_classes=10"),
        (
            {"conv1.weight": (64, 1, 7, 7)},
            r"key 'conv1.weight' has shape \(64, 1, 7, 7\), .* is \(64, 3, 7, 7\); .*in_channels=1",
        ),
        ({"conv1.weight": (32, 3, 7, 7)}, r"key 'conv1.weight' has shape \(32, 3, 7, 7\).*; .*resnet18"),
        ({"fc.weight": (1000, 2048)}, r"key 'fc.weight' has shape \(1000, 2048\).*; .*resnet18"),
        ({"fc.weight": ()}, r"key 'fc.weight' has shape \(\), .*; .*resnet18"),
        (34, f"key {OTHER!r} is none of .*; .*resnet18"),
        (50, "key 'layer1.0.conv3.weight' is none of .*; .*resnet18"),
    ],
)
def test_a_wrong_state_dict_is_refused_and_changes_nothing(change, sentence):
    """`change`: key -> the shape that it has instead; or the depth of another network."""
    state = torchvision_net(change if isinstance(change, int) else 18).state_dict()
    for key, shape in {} if isinstance(change, int) else change.items():
        state.pop(key, None)
        state |= {} if shape is None else {key: torch.zeros(shape)}
    model = create_model("resnet18")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"^state_dict {sentence}[^\n]*$"):
        load_torchvision(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_keys_in_any_order():
    """Files of safetensors are sorted by name, so that the classifier's bias comes before its weight."""
    state = dict(sorted(torchvision_net(18, num_classes=10).state_dict().items()))
    with pytest.raises(ValueError, match="num_classes=10"):
        load_torchvision(create_model("resnet18"), state)
    model = create_model("resnet18", num_classes=10).double()
    load_torchvision(model, state)
    assert all(torch.equal(value, state[key]) for key, value in to_torchvision(model).items())
