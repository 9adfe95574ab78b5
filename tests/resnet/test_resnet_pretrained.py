"""Weights of another training as a start: torchvision's logits, channels by hand, and what does not fit."""

import pytest
import torch
import torchvision
from torch import nn

from resnet import NetSpec, build, create_model, load_pretrained
from resnet.pretrained import adapt_channels, misfit
from resnet.residual import Residual


def drawn(net):
    """The network with every weight and statistic drawn, so that none stands at its default."""
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.05, 0.4)
            tensor.mul_(torch.where(torch.rand_like(tensor) < 0.5, -1, 1) if tensor.ndim > 1 else 1)
    return net.eval()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_logits_are_torchvisions(name):
    """Also of a network for other classes, whose head is then set to torchvision's by hand."""
    torch.manual_seed(1)
    theirs = drawn(getattr(torchvision.models, name)(num_classes=7).double())
    images = torch.randn(2, 3, 48, 40, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(images)
        ours = create_model(name, num_classes=7).double().eval()
        load_pretrained(ours, theirs.state_dict())
        torch.testing.assert_close(ours(images), expected, rtol=1e-9, atol=0)
        other = create_model(name, num_classes=5).double().eval()
        new = other.fc.weight.clone()
        load_pretrained(other, theirs.state_dict())
        assert torch.equal(other.fc.weight, new)
        assert (other.fc.bias == 0).all()
        other.fc = theirs.fc
        torch.testing.assert_close(other(images), expected, rtol=1e-9, atol=0)


def test_our_own_weights_and_a_head_that_is_missing():
    spec = NetSpec(depth=8, version="v2")
    former = drawn(build(spec))
    weights = former.state_dict()
    net = build(spec)
    load_pretrained(net, weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in net.state_dict().items())
    net = build(spec)
    head = net.fc.weight.clone()
    load_pretrained(net, {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")})
    assert torch.equal(net.fc.weight, head)
    assert torch.equal(net.stem[0].weight, weights["stem.0.weight"])


def test_channels_by_hand():
    red, green, blue = (torch.tensor([[float(k)]]) for k in (1, 2, 6))
    weight = torch.stack([red, green, blue])[None]  # one map out, 1x1
    assert adapt_channels(weight, 1).flatten().tolist() == [9]
    assert adapt_channels(weight, 4).flatten().tolist() == [0.75, 1.5, 4.5, 0.75]
    assert adapt_channels(weight, 2).flatten().tolist() == [1.5, 3.0]
    assert adapt_channels(weight[:, :1], 3).flatten().tolist() == pytest.approx([1 / 3] * 3)
    assert adapt_channels(weight, 3) is weight


@pytest.mark.parametrize(("before", "now"), [(3, 1), (1, 3), (1, 4)])
def test_a_grey_image_has_the_same_logits_in_either_network(before, now):
    former = drawn(build(NetSpec(depth=8, in_channels=before)).double())
    net = build(NetSpec(depth=8, in_channels=now)).double().eval()
    load_pretrained(net, former.state_dict())
    grey = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = former(grey.expand(-1, before, -1, -1))
        torch.testing.assert_close(net(grey.expand(-1, now, -1, -1)), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("former", "now", "difference"),
    [
        ({"depth": 8}, {"depth": 14}, "they have no 'stages.0.1.F.0.weight'"),
        ({"depth": 14}, {"depth": 8}, "the network has no 'stages.0.1.F.0.weight'"),
        ({"depth": 8}, {"depth": 8, "width": 2}, "'stem.0.weight' has shape (16, 3, 3, 3), in the network it is (32,"),
        ({"depth": 8}, {"depth": 8, "version": "v2"}, "they have no"),
    ],
)
def test_another_network_is_refused_and_nothing_changes(former, now, difference):
    weights, net = build(NetSpec(**former)).state_dict(), build(NetSpec(**now))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"^the weights are of another network: [^\n]*$") as refused:
        load_pretrained(net, weights)
    assert difference in str(refused.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_torchvisions_weights_are_for_its_own_network_alone():
    """A stride on the 1x1 convolution has the same shapes and other logits."""
    weights = torchvision.models.resnet50().state_dict()
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    net = {"family": "imagenet", "depth": 50, "in_channels": 1, "num_classes": 4}
    assert misfit(NetSpec(**net), shapes) is None
    assert misfit(NetSpec(**net, stride_on="conv1x1"), shapes) is not None


@pytest.mark.parametrize(
    ("net", "units"),
    [({"depth": 14}, 6), ({"depth": 8, "version": "v2"}, 3), ({"family": "article", "version": "v2"}, 2)],
)
def test_layers_have_each_parameter_once(net, units):
    model = build(NetSpec(**net))
    layers = model.layers()
    assert len(layers) == units + 2
    parts = [id(parameter) for layer in layers for parameter in layer.parameters()]
    assert parts == [id(parameter) for parameter in model.parameters()]
    assert all(sum(isinstance(m, Residual) for m in layer.modules()) == 1 for layer in layers[1:-1])
    assert isinstance(layers[-1][-1], nn.Linear)
