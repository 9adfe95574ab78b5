"""What a residual network is: one frozen description, checked when it is made."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from enum import StrEnum
from math import prod
from re import findall
from typing import Any, ClassVar, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from resnet.depths import Blocks, default_unit, valid_depths
from resnet.kinds import Downsample, Family, Shortcut, StrideOn, Unit, Version

# ResNet-20 and ResNet-18 of 1512.03385, and the article's six layers
_DEPTH = {Family.CIFAR: 20, Family.IMAGENET: 18, Family.ARTICLE: 6}
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

# What the article's code leaves no choice of.
_ARTICLE: Mapping[str, frozenset[StrEnum]] = {
    "version": frozenset({Version.V1, Version.V2}),
    "shortcut": frozenset({Shortcut.IDENTITY}),
    "downsample": frozenset({Downsample.PROJECTION}),
}


def needs(field: str) -> tuple[str, frozenset[StrEnum]] | None:
    """(another field of NetSpec, its values under which `field` has an effect); None when it always has one."""
    return _NEEDS.get(field)


def _default_downsample(family: Family, unit: Unit) -> Downsample:
    """Zero padding in CIFAR nets (1512.03385, Sec. 4.2) without bottlenecks (1603.05027, Appendix); else projection."""
    zero_pad = family == Family.CIFAR and unit != Unit.BOTTLENECK
    return Downsample.ZERO_PAD if zero_pad else Downsample.PROJECTION


class NetSpec(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A residual network for images; equal networks compare equal.

    A field without effect (`inactive`) is held at its default. Errors are ValueErrors of one sentence that names field,
    value and remedy.
    """

    MAX_DEPTH: ClassVar[int] = 10_000
    MAX_WIDTH: ClassVar[float] = 64.0  # 4,096 channels in stage 3, six times the widest published net (WRN-40-10)

    family: Family = Field(default=Family.CIFAR, description="stem, stages and head")
    depth: int = Field(
        default_factory=lambda data: _DEPTH[data["family"]],
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
        default_factory=lambda data: _default_downsample(data["family"], data["unit"]),
        description="how the shortcut changes dimension; default: projection, in cifar without bottlenecks zero_pad",
    )
    stride_on: StrideOn = Field(
        # The authors' code for CIFAR; for ImageNet the place that every library's weights are made for.
        default_factory=lambda data: StrideOn.CONV1X1 if data["family"] == Family.CIFAR else StrideOn.CONV3X3,
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

    def __init__(self, **given: Any) -> None:
        """Raises ValueError, one sentence, where pydantic's would be a list."""
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ValueError(_sentence(error, list(type(self).model_fields))) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_choices(self)
        _check_depth(self)
        _check_width(self)
        for name in self.inactive:
            default = type(self).model_fields[name].get_default
            value = default(call_default_factory=True, validated_data=dict(self.__dict__))
            object.__setattr__(self, name, value)  # frozen for everyone else: this is still construction
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with changes that are validated (pydantic's own would not look at them)."""
        del deep  # every field is immutable
        return type(self)(**{**self.model_dump(), **(update or {})})

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
        if self.family is Family.ARTICLE and (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"image size {height}x{width} is not net image_size {self.image_size}, all of which the classifier of "
                f"family=article reads; use square images, and net image_size {min(height, width)}"
            )
        if min(height, width) < self.min_image_size:
            raise ValueError(
                f"image size {height}x{width} does not survive the strides of family={self.family.value}; "
                f"use images of at least {self.min_image_size}x{self.min_image_size} pixels"
            )


def _check_choices(net: NetSpec) -> None:
    """Raise ValueError when the family does not have one of the choices."""
    units: Mapping[str, Collection[StrEnum]] = {"unit": valid_depths(net.family).keys()}
    for name, values in {**(_ARTICLE if net.family is Family.ARTICLE else {}), **units}.items():
        value = getattr(net, name)
        if value not in values:
            raise ValueError(
                f"net {name} {value.value!r} does not exist in family={net.family.value}; "
                f"choose from {', '.join(sorted(values))}"
            )


def _check_depth(net: NetSpec) -> None:
    """Raise ValueError when the family's unit does not have the depth."""
    rule = valid_depths(net.family)[net.unit]
    if net.depth in rule:
        return
    where = "" if net.family is Family.CIFAR else f"family={net.family.value} and "
    match rule.near(net.depth):
        case (below, above):
            remedy = f"the nearest valid depths are {below} and {above}"
        case (only,):
            remedy = f"the {'smallest' if only > net.depth else 'largest'} valid depth is {only}"
        case _:
            raise AssertionError(rule)
    raise ValueError(f"net depth {net.depth} is not {rule} for {where}unit={net.unit.value}; {remedy}")


def _check_width(net: NetSpec) -> None:
    """Raise ValueError when the width rounds the channels to none."""
    if net.channels[0] < 1:
        least = 0.5 / _STEM[net.family]
        raise ValueError(f"net width {net.width} leaves stage 1 without channels; choose more than {least}")


def _sentence(error: ValidationError, fields: list[str]) -> str:
    """The first thing that is wrong with a network's description; `fields` are the names that it may have."""
    first = error.errors(include_url=False)[0]
    name, value, limits = ".".join(map(str, first["loc"])), first["input"], first.get("ctx", {})
    match first["type"]:
        case "value_error":
            return str(limits["error"])
        case "extra_forbidden":
            return f"net has no field {name!r}; {hint(name, fields)}"
        case "enum":
            known = findall(r"'(\w+)'", limits["expected"])  # pydantic: "'zero_pad' or 'projection'"
            return f"net {name} {value!r} is unknown; {hint(str(value), known)}"
        case kind:
            what = next((words for known, words in _KINDS.items() if kind.startswith(known)), None)
            bound = next(
                (f"{words} {limits[known]:.15g}" for known, words in _BOUNDS.items() if known in limits), "another"
            )
            told = f"is no {what}; write one" if what else f"is not valid; give {bound}"
            return f"{' '.join(filter(None, ['net', name]))} {value!r} {told}"


_KINDS = {"int": "whole number", "float": "number", "finite": "finite number", "model": "mapping", "dict": "mapping"}
_BOUNDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}


def hint(word: str, known: list[str]) -> str:
    """The remedy for an unknown word: its near miss, else the words that are known."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
