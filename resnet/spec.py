"""What a residual network is: one frozen description, checked when it is made."""

from collections.abc import Mapping
from enum import StrEnum
from math import prod
from typing import Any, Self

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator

from resnet.checks import check_choices, check_depth
from resnet.depths import Blocks, valid_depths
from resnet.fields import Fields
from resnet.kinds import Family, Shortcut, Unit
from resnet.sentences import sentence

_STEM = {Family.CIFAR: 16, Family.IMAGENET: 64, Family.ARTICLE: 16}  # channels
_STRIDES = {Family.CIFAR: (1, 2, 2), Family.IMAGENET: (1, 2, 2, 2), Family.ARTICLE: (1, 1)}  # of the stages
_GATES = frozenset({Shortcut.EXCLUSIVE_GATE, Shortcut.SHORTCUT_ONLY_GATE})
_NEEDS: Mapping[str, tuple[str, frozenset[StrEnum]]] = {
    "shortcut_scale": ("shortcut", frozenset({Shortcut.CONSTANT_SCALING})),
    "residual_scale": ("shortcut", frozenset({Shortcut.CONSTANT_SCALING})),
    "gate_bias": ("shortcut", _GATES),
    "dropout": ("shortcut", frozenset({Shortcut.DROPOUT})),
    # a plain net has no shortcut to change; the 1x1 convolution of every unit changes the dimension itself
    "downsample": ("shortcut", frozenset(Shortcut) - {Shortcut.NONE, Shortcut.CONV1X1}),
    "stride_on": ("unit", frozenset({Unit.BOTTLENECK})),
    "image_size": ("family", frozenset({Family.ARTICLE})),
}


def needs(field: str) -> tuple[str, frozenset[StrEnum]] | None:
    """(another field of NetSpec, its values under which `field` has an effect); None when it always has one."""
    return _NEEDS.get(field)


class NetSpec(Fields, frozen=True):
    """A residual network for images; equal networks compare equal.

    A field without effect (`inactive`) is held at its default. Errors are pydantic ValidationErrors, hence
    ValueErrors, with one sentence each that names field, value and remedy.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise ValueError(sentence(error, list(cls.model_fields))) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_choices(self)
        check_depth(self)
        check_width(self)
        for name in self.inactive:
            default = type(self).model_fields[name].get_default
            value = default(call_default_factory=True, validated_data=dict(self.__dict__))
            object.__setattr__(self, name, value)  # frozen for everyone else: this is still construction
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with changes that are validated (pydantic's own would not look at them)."""
        del deep  # every field is immutable
        return type(self).model_validate({**self.model_dump(), **(update or {})})

    @property
    def inactive(self) -> frozenset[str]:
        """Names of the fields that have no effect on this network."""
        return frozenset(name for name, (other, values) in _NEEDS.items() if getattr(self, other) not in values)

    @property
    def blocks(self) -> Blocks:
        """Residual units by stage."""
        return valid_depths(self.family)[self.unit].blocks(self.depth)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the 3x3 convolutions by stage; stage 1's is also the stem's, a bottleneck puts out four times."""
        return tuple(round(_STEM[self.family] * 2**stage * self.width) for stage in range(len(self.strides)))

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each stage's first unit."""
        return _STRIDES[self.family]

    @property
    def min_image_size(self) -> int:
        """Pixels a side: the product of all strides, below which one no longer halves the map (4 -> 2 -> 1)."""
        return prod(self.strides) * (4 if self.family is Family.IMAGENET else 1)  # its stem: a stride and a pooling

    def check_image(self, height: int, width: int) -> None:
        """Raise ValueError when images of height x width pixels are not for this network."""
        check_image(self, height, width)


def check_width(net: NetSpec) -> None:
    """Raise ValueError when the width rounds the channels to none."""
    if net.channels[0] < 1:
        least = 0.5 / _STEM[net.family]
        raise ValueError(f"net width {net.width} leaves stage 1 without channels; choose more than {least}")


def check_image(net: NetSpec, height: int, width: int) -> None:
    """See `NetSpec.check_image`."""
    if net.family is Family.ARTICLE and (height, width) != (net.image_size, net.image_size):
        raise ValueError(
            f"image size {height}x{width} is not net image_size {net.image_size}, all of which the classifier of "
            f"family=article reads; use square images, and net image_size {min(height, width)}"
        )
    if min(height, width) < net.min_image_size:
        raise ValueError(
            f"image size {height}x{width} does not survive the strides of family={net.family.value}; "
            f"use images of at least {net.min_image_size}x{net.min_image_size} pixels"
        )
