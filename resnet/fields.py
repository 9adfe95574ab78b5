"""The fields of a network's description and their defaults, some of which follow from fields before them."""

from typing import ClassVar

from pydantic import BaseModel, Field

from resnet.depths import default_depth, default_unit
from resnet.kinds import Downsample, Family, Shortcut, StrideOn, Unit, Version


def default_downsample(family: Family, unit: Unit) -> Downsample:
    """Zero padding in CIFAR nets (1512.03385, Sec. 4.2) without bottlenecks (1603.05027, Appendix); else projection."""
    zero_pad = family == Family.CIFAR and unit != Unit.BOTTLENECK
    return Downsample.ZERO_PAD if zero_pad else Downsample.PROJECTION


def default_stride_on(family: Family) -> StrideOn:
    """The authors' code for CIFAR; for ImageNet the place that every library's weights are made for."""
    return StrideOn.CONV1X1 if family == Family.CIFAR else StrideOn.CONV3X3


class Fields(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Each field checked by itself; `NetSpec` checks them together."""

    MAX_DEPTH: ClassVar[int] = 10_000
    MAX_WIDTH: ClassVar[float] = 64.0  # 4,096 channels in stage 3, six times the widest published net (WRN-40-10)

    family: Family = Field(default=Family.CIFAR, description="stem, stages and head")
    depth: int = Field(
        default_factory=lambda data: default_depth(data["family"]),
        le=MAX_DEPTH,
        description="layers with weights, stem and classifier included; default 20, imagenet 18, article 6",
    )
    unit: Unit = Field(
        default_factory=lambda data: default_unit(data["family"], data["depth"]),
        description="weights of the residual branch; default: basic, in imagenet what the papers have at the depth",
    )
    version: Version = Field(default=Version.V1, description="where the activations stand")
    shortcut: Shortcut = Field(default=Shortcut.IDENTITY, description="the shortcut h")
    shortcut_scale: float = Field(default=0.5, description="constant on h (constant_scaling)")
    residual_scale: float = Field(default=0.5, description="constant on F (constant_scaling)")
    gate_bias: float = Field(default=-6.0, description="initial bias of the gates; 1603.05027 found -6 best")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="rate on the shortcut (dropout)")
    downsample: Downsample = Field(
        default_factory=lambda data: default_downsample(data["family"], data["unit"]),
        description="how the shortcut changes dimension; default: projection, in cifar without bottlenecks zero_pad",
    )
    stride_on: StrideOn = Field(
        default_factory=lambda data: default_stride_on(data["family"]),
        description="where a bottleneck has its stride; default: conv1x1 in cifar, conv3x3 in imagenet",
    )
    width: float = Field(default=1.0, gt=0, le=MAX_WIDTH, description="factor on the channels, rounded")
    image_size: int = Field(default=32, ge=1, le=4096, description="side in pixels (article)")
    in_channels: int = Field(default=3, ge=1, description="channels of the image")
    num_classes: int = Field(
        default_factory=lambda data: 1000 if data["family"] == Family.IMAGENET else 10,
        ge=2,
        description="outputs of the classifier; default 10, imagenet 1000",
    )
