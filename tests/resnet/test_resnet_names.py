"""The names of the published networks."""

import pytest

from resnet import NetSpec, create_model, list_models, name_of, named


def test_names_of_the_papers():
    cifar, imagenet = [20, 32, 44, 56, 110, 164, 1001], [18, 34, 50, 101, 152]
    assert list_models("resnet*") == [f"resnet{depth}" for depth in (*cifar, *imagenet, 1202)]
    assert list_models("preact_*") == [f"preact_resnet{depth}" for depth in (*cifar, *imagenet, 200)]
    assert list_models("plain*") == [f"plain{depth}" for depth in (20, 32, 44, 56, 110)]
    assert list_models("article*") == ["article_resnet_v1", "article_resnet_v2"]
    assert len(list_models()) == 13 + 13 + 5 + 2


def test_names_there_and_back():
    for name in list_models():
        assert name_of(named(name)) == name
        assert name_of(named(name, num_classes=100, in_channels=1)) == name
    assert name_of(NetSpec(depth=26)) is None
    assert name_of(named("resnet56", downsample="projection")) is None
    assert name_of(named("article_resnet_v1", image_size=28)) == "article_resnet_v1"


def test_imagenet_networks_have_the_thousand_classes():
    assert named("resnet50").num_classes == 1000
    assert named("resnet56").num_classes == 10


def test_create_model():
    net = create_model("preact_resnet20", num_classes=100)
    assert sum(p.numel() for p in net.parameters()) == 275572  # derived: 20 v2 A, 100 classes
    with pytest.raises(ValueError, match=r"^network 'resnet21' is unknown; did you mean"):
        create_model("resnet21")
    with pytest.raises(ValueError, match="net depth 21 is not 6n"):
        create_model("resnet20", depth=21)
