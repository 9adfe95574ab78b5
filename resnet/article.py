"""The article's own two networks, `resnet_v1` and `resnet_v2`, as Keras builds them from its code.

They differ from the papers' (docs/equations.md lists how): a bias in every convolution, a projection of the raw x
without normalisation, no normalisation in the stem, no stride, no activation after the last sum, and a classifier of
every pixel.
"""

from torch import nn

from resnet.kinds import Version
from resnet.residual import Residual, activations, chain, order
from resnet.shortcut import Change
from resnet.spec import NetSpec


def conv(n_in: int, n_out: int, side: int) -> nn.Conv2d:
    """`Conv2D(kernel_size=(side, side), filters=n_out, strides=1, padding='same')`, with Keras' default of a bias."""
    return nn.Conv2d(n_in, n_out, side, padding=side // 2)


def stem(spec: NetSpec) -> nn.Sequential:
    """The first convolution, `activation='relu'`."""
    return nn.Sequential(conv(spec.in_channels, spec.channels[0], 3), nn.ReLU(inplace=True))


def unit(version: Version, change: Change) -> Residual:
    """`res_block_v1` or `res_block_v2`: the orders of the papers' units, with the article's convolutions."""
    n_in, n_out, places = change.n_in, change.n_out, order(version)
    F = nn.Sequential(
        *activations(places.before, n_in),
        conv(n_in, n_out, 3),
        *activations((*places.inner, *places.before), n_out),
        conv(n_out, n_out, 3),
        *activations(places.last, n_out),
    )
    h = conv(n_in, n_out, 1) if change.dimension else nn.Identity()
    return Residual(h, F, chain(activations(places.after, n_out)))


def initialise(net: nn.Module) -> None:
    """Keras' defaults: Glorot's uniform weights and zero biases, BN with epsilon 0.001 and momentum 0.99.

    The classifier has the `he_normal` that the article asks for; Keras cuts that normal distribution off at two
    standard deviations, torch writes momentum as 1 - 0.99.
    """
    for module in net.modules():
        match module:
            case nn.Conv2d():
                nn.init.xavier_uniform_(module.weight)
            case nn.Linear():
                # 0.8796: the deviation of a normal distribution cut off at 2, which Keras divides out
                deviation = (2 / module.in_features) ** 0.5 / 0.87962566103423978
                nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            case nn.BatchNorm2d():
                module.eps, module.momentum = 1e-3, 0.01
                continue
            case _:
                continue
        assert module.bias is not None
        nn.init.zeros_(module.bias)
