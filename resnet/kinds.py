"""The words of the design space."""

from enum import StrEnum


class Family(StrEnum):
    """Stem, stages and head."""

    CIFAR = "cifar"  # 3x3 stem; 16, 32, 64 channels at strides 1, 2, 2; global average pooling (1512.03385, Sec. 4.2)
    IMAGENET = "imagenet"  # 7x7 stem and max pooling; 64 to 512 channels at strides 1, 2, 2, 2 (1512.03385, Table 1)
    ARTICLE = "article"  # the article's Keras code: 16, 32 channels, no stride, no pooling, a bias in every convolution


class Unit(StrEnum):
    """The weights of F; depth counts them all, with the stem and the classifier."""

    BASIC = "basic"  # 3x3, 3x3: CIFAR depth 6n+2
    BOTTLENECK = "bottleneck"  # 1x1, 3x3, 1x1 to four times the channels: CIFAR depth 9n+2 (1603.05027, Appendix)
    SINGLE = "single"  # 3x3: CIFAR depth 3n+2, "1layer" in 1603.05027, Table 3


class Version(StrEnum):
    """Where the activations stand: Fig. 4 (a) to (e) of 1603.05027."""

    V1 = "v1"
    BN_AFTER_ADD = "bn_after_add"
    RELU_BEFORE_ADD = "relu_before_add"
    RELU_ONLY_PREACT = "relu_only_preact"
    V2 = "v2"


class Shortcut(StrEnum):
    """The shortcut h: Fig. 2 (a) to (f) of 1603.05027, and none (the plain net of 1512.03385)."""

    IDENTITY = "identity"
    NONE = "none"
    CONSTANT_SCALING = "constant_scaling"
    EXCLUSIVE_GATE = "exclusive_gate"
    SHORTCUT_ONLY_GATE = "shortcut_only_gate"
    CONV1X1 = "conv1x1"
    DROPOUT = "dropout"


class Downsample(StrEnum):
    """How the shortcut changes dimension: options A and B of 1512.03385, Sec. 3.3."""

    ZERO_PAD = "zero_pad"
    PROJECTION = "projection"


class StrideOn(StrEnum):
    """Which convolution of a bottleneck unit carries the stride."""

    CONV1X1 = "conv1x1"  # the first 1x1: the authors' code, KaimingHe/resnet-1k-layers and deep-residual-networks
    CONV3X3 = "conv3x3"  # fb.resnet.torch and torchvision: more multiply-accumulates, the same parameters
