"""What a residual network is: one frozen description, checked when it is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from math import prod
from re import findall
from typing import Any, ClassVar, Self

from pydantic import BaseModel, Field, ModelWrapValidatorHandler, ValidationError, model_validator


class Family(StrEnum):
    """Stem, stages and head."""

    CIFAR = "cifar"  # 3x3 stem; 16, 32, 64 channels at strides 1, 2, 2; global average pooling (1512.03385, Sec. 4.2)


class Unit(StrEnum):
    """The weights of F; depth counts them all, with the stem and the classifier."""

    BASIC = "basic"  # 3x3, 3x3: depth 6n+2
    BOTTLENECK = "bottleneck"  # 1x1, 3x3, 1x1 to four times the channels: depth 9n+2 (1603.05027, Appendix)
    SINGLE = "single"  # 3x3: depth 3n+2, "1layer" in 1603.05027, Table 3


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

    CONV1X1 = "conv1x1"  # the first 1x1: the authors' code, KaimingHe/resnet-1k-layers
    CONV3X3 = "conv3x3"  # fb.resnet.torch and torchvision: more multiply-accumulates, the same parameters


@dataclass(frozen=True)
class DepthRule:
    """The valid depths step*n + 2 for n = 1, 2, ..."""

    step: int

    def __str__(self) -> str:
        return f"{self.step}n+2"

    def __contains__(self, depth: int) -> bool:
        return depth > 2 and (depth - 2) % self.step == 0

    def n(self, depth: int) -> int:
        """Residual units of each stage at a valid depth."""
        return (depth - 2) // self.step

    def remedy(self, depth: int) -> str:
        """The valid depths next to one that is not."""
        below = self.n(depth) * self.step + 2
        if below <= 2:
            return f"the smallest valid depth is {self.step + 2}"
        return f"the nearest valid depths are {below} and {below + self.step}"


_WEIGHTS = {Unit.BASIC: 2, Unit.BOTTLENECK: 3, Unit.SINGLE: 1}  # convolutions in F
_STAGES = 3
_GATES = frozenset({Shortcut.EXCLUSIVE_GATE, Shortcut.SHORTCUT_ONLY_GATE})
_BY_SHORTCUT = {
    "shortcut_scale": frozenset({Shortcut.CONSTANT_SCALING}),
    "residual_scale": frozenset({Shortcut.CONSTANT_SCALING}),
    "gate_bias": _GATES,
    "dropout": frozenset({Shortcut.DROPOUT}),
    # a plain net has no shortcut to change; the 1x1 convolution of every unit changes the dimension itself
    "downsample": frozenset(Shortcut) - {Shortcut.NONE, Shortcut.CONV1X1},
}
_BY_UNIT = {"stride_on": frozenset({Unit.BOTTLENECK})}


def active_when(field: str) -> frozenset[Shortcut] | None:
    """The shortcuts for which a field of NetSpec has an effect; None when it does not depend on the shortcut."""
    return _BY_SHORTCUT.get(field)


def active_units(field: str) -> frozenset[Unit] | None:
    """The units for which a field of NetSpec has an effect; None when it does not depend on the unit."""
    return _BY_UNIT.get(field)


def valid_depths(unit: Unit) -> DepthRule:
    """The rule of the depths of a unit: 6n+2 basic, 9n+2 bottleneck, 3n+2 single."""
    return DepthRule(_STAGES * _WEIGHTS[unit])


def default_downsample(unit: Unit) -> Downsample:
    """Projection for bottleneck nets (1603.05027, Appendix), zero padding for the others (1512.03385, 4.2)."""
    return Downsample.PROJECTION if unit is Unit.BOTTLENECK else Downsample.ZERO_PAD


class NetSpec(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A residual network for images; equal networks compare equal.

    A field without effect (`inactive`) is held at its default. Errors are pydantic ValidationErrors, hence
    ValueErrors, with one sentence each that names field, value and remedy.
    """

    STEM_WIDTH: ClassVar[int] = 16
    MAX_WIDTH: ClassVar[float] = 64.0  # 4,096 channels in stage 3, six times the widest published net (WRN-40-10)

    family: Family = Family.CIFAR
    depth: int = Field(default=20, description="layers with weights, stem and classifier included")
    unit: Unit = Field(default=Unit.BASIC, description="weights of the residual branch")
    version: Version = Field(default=Version.V1, description="where the activations stand")
    shortcut: Shortcut = Field(default=Shortcut.IDENTITY, description="the shortcut h")
    shortcut_scale: float = Field(default=0.5, description="constant on h (constant_scaling)")
    residual_scale: float = Field(default=0.5, description="constant on F (constant_scaling)")
    gate_bias: float = Field(default=-6.0, description="initial bias of the gates; 1603.05027 found -6 best")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="rate on the shortcut (dropout)")
    downsample: Downsample = Field(
        default_factory=lambda data: default_downsample(data["unit"]),
        description="how the shortcut changes dimension; default: projection for bottleneck, else zero_pad",
    )
    stride_on: StrideOn = Field(default=StrideOn.CONV1X1, description="where a bottleneck has its stride")
    width: float = Field(default=1.0, gt=0, le=MAX_WIDTH, description="factor on the channels 16, 32, 64, rounded")
    in_channels: int = Field(default=3, ge=1, description="channels of the image")
    num_classes: int = Field(default=10, ge=2, description="outputs of the classifier")

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise ValueError(_sentence(error)) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        rule = valid_depths(self.unit)
        if self.depth not in rule:
            remedy = rule.remedy(self.depth)
            raise ValueError(f"net depth {self.depth} is not {rule} for unit={self.unit.value}; {remedy}")
        if self.channels[0] < 1:
            least = 0.5 / self.STEM_WIDTH
            raise ValueError(f"net width {self.width} leaves stage 1 without channels; choose more than {least}")
        for name in self.inactive:  # frozen for everyone else: this is still construction
            object.__setattr__(self, name, self._default(name))
        return self

    def _default(self, name: str) -> Any:
        return default_downsample(self.unit) if name == "downsample" else type(self).model_fields[name].default

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with changes that are validated (pydantic's own would not look at them)."""
        del deep  # every field is immutable
        return type(self).model_validate({**self.model_dump(), **(update or {})})

    @property
    def inactive(self) -> frozenset[str]:
        """Names of the fields that have no effect on this network."""
        by_shortcut = {name for name, values in _BY_SHORTCUT.items() if self.shortcut not in values}
        return frozenset(by_shortcut | {name for name, values in _BY_UNIT.items() if self.unit not in values})

    @property
    def units_per_stage(self) -> int:
        """n of the depth rule."""
        return valid_depths(self.unit).n(self.depth)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the 3x3 convolutions by stage; stage 1's is also the stem's, a bottleneck puts out four times."""
        return tuple(round(self.STEM_WIDTH * 2**stage * self.width) for stage in range(_STAGES))

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each stage's first unit."""
        return (1, *[2] * (_STAGES - 1))

    @property
    def min_image_size(self) -> int:
        """Pixels a side: the product of the strides, below which a stride no longer halves the map (4 -> 2 -> 1)."""
        return prod(self.strides)

    def check_image(self, height: int, width: int) -> None:
        """Raise ValueError when an image of height x width pixels does not survive the strides."""
        if min(height, width) < self.min_image_size:
            raise ValueError(
                f"image size {height}x{width} does not survive the strides of family={self.family.value}; "
                f"use images of at least {self.min_image_size}x{self.min_image_size} pixels"
            )


def _sentence(error: ValidationError) -> str:
    """The first error as one sentence with field, value and remedy."""
    first = error.errors(include_url=False)[0]
    name, value, limits = ".".join(map(str, first["loc"])), first["input"], first.get("ctx", {})
    match first["type"]:
        case "value_error":
            return str(limits["error"])
        case "extra_forbidden":
            return f"net has no field {name!r}; {hint(name, list(NetSpec.model_fields))}"
        case "enum":
            known = findall(r"'(\w+)'", limits["expected"])  # pydantic: "'zero_pad' or 'projection'"
            return f"net {name} {value!r} is unknown; {hint(str(value), known)}"
        case _:
            remedy = first["msg"].removeprefix("Input ")  # pydantic: "Input should be greater than 0"
            return f"{' '.join(filter(None, ['net', name]))} {value!r} is not valid; it {remedy}"


def hint(word: str, known: list[str]) -> str:
    """The remedy for an unknown word: its near miss, else the words that are known."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
