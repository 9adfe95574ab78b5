"""The article's two networks against the article's own code, executed by Keras.

In float32: Keras' normalisation on torch computes in it whatever the dtype asked for.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from resnet import create_model
from resnet.residual import Residual

VERSIONS = ("v1", "v2")
BATCH = 3
SIDE = 32  # of the images, in pixels


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory):
    """Keras on torch; it reads its settings when it is imported, and writes them to KERAS_HOME."""
    home = tmp_path_factory.mktemp("keras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_TORCH_DEVICE", "cpu")
        patch.setenv("KERAS_HOME", str(home))
        import keras
    assert keras.config.backend() == "torch"
    assert (home / "keras.json").exists()  # nothing imported it before, with the user's folder
    return keras


def article(keras, version, shape=(SIDE, SIDE, 3)):
    """The article's model as Keras initialises it, from a fixed seed."""
    from tests.support import article_keras

    keras.utils.set_random_seed(0)
    images = keras.Input(shape)
    return keras.Model(images, getattr(article_keras, f"resnet_{version}")(images))


def randomise(model):
    """Draw every weight and moving statistic, so that none stands at its default; returns them."""
    rng = np.random.default_rng(0)
    drawn = []
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        elif weight.name == "kernel":
            value = rng.normal(0, math.sqrt(1 / math.prod(weight.shape[:-1])), weight.shape)
        else:
            value = rng.normal(0, 0.3, weight.shape)
        drawn.append(value.astype(weight.dtype))
    model.set_weights(drawn)
    return drawn


def network(version, weights, **fields):
    """Our network with weights and moving statistics as `get_weights()` of Keras' model gives them.

    Keras has convolutions as (height, width, in, out) and the classifier's rows in the order height, width, channel;
    torch has (out, in, height, width) and channel, height, width.
    """
    net = create_model(f"article_resnet_{version}", **fields)
    places = [place for layer in layers(net) for place in tensors(layer, net.spec.image_size)]
    for array, (tensor, shape) in zip(weights, places, strict=True):
        assert array.shape == shape
        tensor.copy_(torch.tensor(array).reshape(tensor.shape))
    return net


def layers(net):
    """The layers as Keras sorts them: by the longest way to the output, of equals h before F."""
    yield net.stem[0]
    for unit in (m for m in net.stages.modules() if isinstance(m, Residual)):
        *others, last = (layer for layer in unit.F.children() if any(True for _ in layer.parameters()))
        yield from (*others, unit.h, last)
    yield net.fc


def tensors(layer, image_size):
    """A layer's weights with the axes in Keras' order, as views, and Keras' shape of each; none of an identity."""
    state = layer.state_dict()
    match layer:
        case nn.Conv2d():
            found = [state["weight"].permute(2, 3, 1, 0), state["bias"]]
        case nn.BatchNorm2d():
            found = [state[name] for name in ("weight", "bias", "running_mean", "running_var")]
        case nn.Linear():
            maps = state["weight"].view(layer.out_features, -1, image_size, image_size)
            return [(maps.permute(2, 3, 1, 0), state["weight"].T.shape), (state["bias"], state["bias"].shape)]
        case _:
            found = []
    return [(tensor, tensor.shape) for tensor in found]


def draw(channels=3, side=SIDE):
    """Images for us; `moveaxis(1, -1)` of them is what Keras reads."""
    torch.manual_seed(1)
    return torch.randn(BATCH, channels, side, side)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("side", "channels"), [(SIDE, 3), (12, 1)])
def test_the_softmax_equals_keras(keras, version, side, channels):
    theirs = article(keras, version, (side, side, channels))
    ours = network(version, randomise(theirs), image_size=side, in_channels=channels).eval()
    images = draw(channels, side)
    with torch.no_grad():
        expected = theirs(images.moveaxis(1, -1), training=False)
        torch.testing.assert_close(ours(images).softmax(dim=1), expected, rtol=0, atol=1e-5)
    assert expected.max() < 0.9  # not saturated: every logit counts


@pytest.mark.parametrize("version", VERSIONS)
def test_gradients_equal_keras(keras, version):
    """In training: the statistics of the batch, Keras' epsilon of 0.001."""
    theirs = article(keras, version)
    ours = network(version, randomise(theirs))
    images, labels = draw(), torch.tensor([3, 1, 4])
    answers, logits = theirs(images.moveaxis(1, -1), training=True), ours(images)
    torch.testing.assert_close(logits.softmax(dim=1), answers, rtol=0, atol=1e-5)
    weights = [weight.value for weight in theirs.trainable_weights]
    expected = iter(torch.autograd.grad(nn.functional.nll_loss(answers.log(), labels), weights))
    nn.functional.cross_entropy(logits, labels).backward()
    # the gradients find their places as the weights do
    arrays = [next(expected).numpy() if weight.trainable else weight.numpy() for weight in theirs.weights]
    carried = network(version, arrays)
    for (name, p), q in zip(ours.named_parameters(), carried.parameters(), strict=True):
        # a bias before a normalisation has no gradient but rounding
        torch.testing.assert_close(p.grad, q.data, rtol=1e-4, atol=2e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("version", VERSIONS)
def test_moving_statistics(keras, version):
    """Keras 3 averages the biased variance of the batch, torch (as Keras 2) the unbiased one: m / (m - 1) of it."""
    side = 8
    m = BATCH * side**2  # small, so that m / (m - 1) shows
    theirs = article(keras, version, (side, side, 3))
    weights = randomise(theirs)
    before, ours = (network(version, weights, image_size=side) for _ in range(2))
    images = draw(side=side)
    theirs(images.moveaxis(1, -1), training=True)
    ours(images)
    after = network(version, theirs.get_weights(), image_size=side)
    norms = [[n for n in net.modules() if isinstance(n, nn.BatchNorm2d)] for net in (before, ours, after)]
    for old, new, expected in zip(*norms, strict=True):
        assert (new.running_mean - old.running_mean).abs().max() > 1e-3
        torch.testing.assert_close(new.running_mean, expected.running_mean, rtol=1e-6, atol=1e-6)
        of_batch = (expected.running_var - 0.99 * old.running_var) / 0.01
        unbiased = 0.99 * old.running_var + 0.01 * of_batch * m / (m - 1)
        torch.testing.assert_close(new.running_var, unbiased, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("version", "params", "keras_total"), [("v1", 347402, 347594), ("v2", 347370, 347530)])
def test_parameters(keras, version, params, keras_total):
    """tests/support/papers.json, article_derived; Keras counts the moving statistics too."""
    theirs, ours = article(keras, version), create_model(f"article_resnet_{version}")
    assert sum(w.value.numel() for w in theirs.trainable_weights) == params
    assert sum(p.numel() for p in ours.parameters()) == params
    assert theirs.count_params() == keras_total
    assert sum(t.numel() for t in ours.state_dict().values() if t.is_floating_point()) == keras_total


@pytest.mark.parametrize("version", VERSIONS)
def test_initialisation(keras, version):
    """Ours and Keras' own: spread of the weights, their bounds, and where everything else starts."""
    torch.manual_seed(0)
    ours = create_model(f"article_resnet_{version}")
    drawn = network(version, article(keras, version).get_weights())
    for net in (ours, drawn):
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                fans = (layer.in_channels + layer.out_channels) * math.prod(layer.kernel_size)
                bound = math.sqrt(6 / fans)  # Glorot: uniform; at least 432 numbers, error of the spread 2 %
                assert 0.97 * bound < layer.weight.abs().max() <= bound
                assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.08)
        weight = net.fc.weight  # He: 327,680 numbers, error of the spread 0.1 %
        assert weight.std().item() == pytest.approx(math.sqrt(2 / 32768), rel=0.01)
        assert weight.abs().max().item() == pytest.approx(2 * math.sqrt(2 / 32768) / 0.87962566, rel=0.001)
    for (name, p), q in zip(ours.named_parameters(), drawn.parameters(), strict=True):
        if p.ndim == 1:
            assert torch.equal(p, q), name
    for name, buffer in ours.named_buffers():
        assert torch.equal(buffer, drawn.get_buffer(name)), name
