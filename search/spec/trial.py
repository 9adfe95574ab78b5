"""`TrialSpec`: the one thing that travels from the search to a worker, to MLflow and back."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from resnet.kinds import Shortcut
from resnet.spec import NetSpec
from search.errors import InputError, hint, redacted

Value = str | int | float | bool
NOT_APPLICABLE = "n/a"  # how a field without effect is shown where every trial must show every field


class Schedule(StrEnum):
    """How the learning rate moves over the epochs of a complete trial."""

    CONSTANT = "constant"
    STEPS = "steps"  # divided by 10 at 1/2 and at 3/4, as 32k and 48k of 64k iterations (arXiv:1512.03385, section 4.2)
    COSINE = "cosine"  # to zero along half a cosine (arXiv:1608.03983, equation 5 without restarts)
    ONE_CYCLE = "one_cycle"  # up from lr / 25 and down to nearly zero, both along half cosines (arXiv:1708.07120)


class Crop(StrEnum):
    """Which part of an image a step sees."""

    PADDED = "padded"  # of full size, out of the image with zeros around it (arXiv:1512.03385, section 4.2)
    RESIZED = "resized"  # 8 to 100 % of the image, resized to full size (arXiv:1409.4842, section 6)


class Optimizer(StrEnum):
    """What moves the weights."""

    SGD = "sgd"  # with momentum, and the L2 penalty in the gradient
    ADAMW = "adamw"  # with decoupled weight decay (arXiv:1711.05101, algorithm 2)


class ClassWeights(StrEnum):
    """How much an image counts in the training loss."""

    NONE = "none"
    BALANCED = "balanced"  # inversely to the images of its class, so that each class counts alike


class Loss(StrEnum):
    """What training makes small."""

    CROSS_ENTROPY = "cross_entropy"
    BCE = "bce"  # binary cross-entropy of each class against the rest (arXiv:2110.00476, section 2)


class TrainSpec(BaseModel):
    """How one network is trained; the defaults follow the papers' recipe for CIFAR (1512.03385, section 4.2)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False)

    SCRATCH: ClassVar[str] = "scratch"  # of `start`
    IMAGENET: ClassVar[str] = "imagenet"

    epochs: int = Field(default=12, ge=1, le=100_000, description="passes over the training split of a complete trial")
    batch_size: int = Field(default=128, ge=2, le=65_536, description="images a step")
    start: str = Field(
        default=SCRATCH,
        min_length=1,
        description="the first weights: scratch (drawn), imagenet (torchvision's), a file (.safetensors, .pth, .pt), "
        "the folder of an exported network, or study:NAME, whose champion is beside this study",
    )
    freeze_epochs: int = Field(
        default=0, ge=0, le=100_000, description="epochs at first in which only the head trains; none from scratch"
    )
    optimizer: Optimizer = Field(default=Optimizer.SGD, description="adamw: 1711.05101, with betas 0.9 and 0.999")
    lr: float = Field(
        default_factory=lambda data: 0.001 if data["optimizer"] == Optimizer.ADAMW else 0.1,
        gt=0,
        le=100,
        description="peak learning rate; default 0.1, adamw 0.001",
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="a layer learns at lr x layer_decay^distance from the head (2106.08254); layers: stem, units, head",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd; 0: none")
    nesterov: bool = Field(default=True, description="no effect without momentum")
    weight_decay: float = Field(
        default=1e-4,
        ge=0,
        le=1,
        description="factor of the L2 penalty on all weights; with adamw of their decay a step",
    )
    schedule: Schedule = Field(
        default=Schedule.COSINE,
        description="of the learning rate; steps: divided by 10 at 1/2 and at 3/4 of the epochs",
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="steps at first with a tenth of lr, as 0.01 for 400 in 1603.05027, appendix"
    )
    warmup: float = Field(
        default_factory=lambda data: 0.3 if data["schedule"] == Schedule.ONE_CYCLE else 0.0,
        ge=0,
        lt=1,
        description="fraction of the training in which lr rises; default 0, one_cycle 0.3",
    )
    loss: Loss = Field(
        default=Loss.CROSS_ENTROPY,
        description="bce: binary, each class against the rest; of a mixed image both are present (2110.00476)",
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="probability that is shared among all classes")
    class_weights: ClassWeights = Field(
        default=ClassWeights.NONE,
        description="balanced: in the loss an image counts n / (classes x images of its class), so that a class of few "
        "images counts as much as one of many",
    )
    crop: Crop = Field(
        default=Crop.PADDED,
        description="padded: of full size with zeros around it; resized: 8 to 100 % of it, enlarged",
    )
    crop_padding: int = Field(
        default=4, ge=0, le=64, description="zero pixels added on each side before a padded crop; 0: none"
    )
    flip: bool = Field(default=True, description="mirror half of the images left to right")
    image_size: int = Field(
        default=0, ge=0, le=4096, description="side of the square that images are made smaller to; 0: as prepared"
    )
    trivial_augment: bool = Field(
        default=False, description="one of 14 operations on each image, at a random strength (2103.10158)"
    )
    cutout: int = Field(default=0, ge=0, le=4096, description="side of a square of each image that is hidden; 0: none")
    random_erasing: float = Field(
        default=0.0, ge=0, le=1, description="probability that a box of 2 to 33 % of an image is hidden (1708.04896)"
    )
    mixup: float = Field(default=0.0, ge=0, le=100, description="alpha of the Beta that images are mixed by; 0: none")
    cutmix: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="alpha of the Beta of how much of an image is of another (1905.04899); 0: none; "
        "with mixup too, each batch has one of both",
    )
    stochastic_depth: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="probability that the last unit's branch is dropped, less the earlier a unit is (1603.09382)",
    )
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay a step of the averaged weights that are validated; 0: none"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="of weights, order and augmentation")

    @model_validator(mode="after")
    def _hold_fields_without_effect(self) -> Self:
        # Equal training must compare equal, so a field that changes nothing is held at its default.
        for name in self.inactive:  # frozen for everyone else: this is still construction
            object.__setattr__(self, name, type(self).model_fields[name].default)
        return self

    def sides(self, image: tuple[int, int]) -> tuple[int, int]:
        """Height and width in pixels of what a network sees of prepared images of these sides.

        Raises:
            ValueError: images cannot be made smaller to `image_size`.
        """
        if not self.image_size:
            return image
        if image[0] != image[1]:
            raise ValueError(f"train.image_size = {self.image_size} needs square images; leave it out")
        if self.image_size > image[0]:
            raise ValueError(
                f"train.image_size = {self.image_size} is more than the {image[0]} pixels of the images; give at most "
                "as many, or prepare larger ones by data.image_size"
            )
        return self.image_size, self.image_size

    @property
    def inactive(self) -> frozenset[str]:
        """Names of the fields without effect."""
        adaptive = self.optimizer is Optimizer.ADAMW
        without = {
            "freeze_epochs": self.start == self.SCRATCH,
            "momentum": adaptive,
            "nesterov": adaptive or self.momentum == 0,
            "crop_padding": self.crop is Crop.RESIZED,
        }
        return frozenset(name for name, inactive in without.items() if inactive)


class TrialSpec(BaseModel):
    """A network and its training: frozen, hashable by `digest`, flat for Optuna and MLflow, whole as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    net: NetSpec = NetSpec()
    train: TrainSpec = TrainSpec()

    def __init__(self, **given: Any) -> None:
        """Raises InputError, one sentence, where pydantic's would be a list."""
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InputError(sentence(error)) from None

    @model_validator(mode="after")
    def _trains_this_network(self) -> Self:
        depth, channels = self.train.stochastic_depth, self.net.in_channels
        if depth and self.net.shortcut is Shortcut.NONE:
            raise ValueError(
                f"train.stochastic_depth = {depth:g} drops branches, without which nothing is left of a network with "
                "net.shortcut = none; set it to 0, or give it under space with when: {net.shortcut: [identity]}"
            )
        if self.train.trivial_augment and channels not in (1, 3):
            raise ValueError(
                f"train.trivial_augment = True is for images of 1 or 3 channels, and these have {channels}; "
                "set it to false"
            )
        return self

    def has_steps_of(self, other: "TrialSpec") -> bool:
        """Whether its training is of as many steps as the other's, and each of the same network and as many pixels."""
        mine, theirs = self.train, other.train
        sizes = "epochs", "batch_size", "image_size"
        return self.net == other.net and all(getattr(mine, size) == getattr(theirs, size) for size in sizes)

    @classmethod
    def paths(cls) -> tuple[str, ...]:
        """Every dotted path, such as `net.depth`, in the order of declaration."""
        return tuple(_fields())

    @classmethod
    def types(cls) -> dict[str, Any]:
        """Every path with the type of its values."""
        return {path: field.annotation for path, field in _fields().items()}

    @classmethod
    def default(cls, path: str, flat: Mapping[str, Any]) -> Any:
        """The default of one path, which may follow from these values, not checked, of paths before it."""
        fields = _fields()
        known: dict[str, Any] = {}
        for other in (*cls.before(path), path):
            default = fields[other].get_default
            known[other.partition(".")[2]] = (
                flat[other] if other in flat else default(call_default_factory=True, validated_data=known)
            )
        return known[path.partition(".")[2]]

    @classmethod
    def before(cls, path: str) -> tuple[str, ...]:
        """The paths from which the default of this one may follow: its section's before it, or none for a constant."""
        section = path.partition(".")[0]
        paths = [other for other in cls.paths() if other.partition(".")[0] == section]
        return tuple(paths[: paths.index(path)]) if _fields()[path].default_factory else ()

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> Self:
        """The specification with these dotted paths set and defaults elsewhere.

        Raises:
            InputError: a path is unknown or a value is out of range.
        """
        nested: dict[str, dict[str, Any]] = {}
        for path, value in flat.items():
            section, _, name = path.partition(".")
            nested.setdefault(section, {})[name] = value
        return cls(**nested)

    def flat(self) -> dict[str, Value]:
        """Dotted path -> value, only for fields that have an effect; enums by value."""
        sections: tuple[tuple[str, NetSpec | TrainSpec], ...] = (("net", self.net), ("train", self.train))
        return {
            f"{section}.{name}": value
            for section, spec in sections
            for name, value in spec.model_dump(mode="json").items()
            if name not in spec.inactive
        }

    def mlflow_params(self) -> dict[str, str]:
        """Every path as MLflow shows it, so that no plot over parameters drops a run."""
        flat = self.flat()
        return {path: str(flat.get(path, NOT_APPLICABLE)) for path in self.paths()}

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name this specification; equal networks and training have equal digests."""
        return hashlib.sha256(json.dumps(self.flat(), sort_keys=True).encode()).hexdigest()[:12]


@cache
def _fields() -> dict[str, FieldInfo]:
    sections: tuple[tuple[str, type[BaseModel]], ...] = (("net", NetSpec), ("train", TrainSpec))
    return {f"{section}.{name}": field for section, model in sections for name, field in model.model_fields.items()}


ELSEWHERE = {  # what other tools have a field for -> what there is here
    "pretrained": "did you mean 'train.start'?",
    "learning_rate": "did you mean 'train.lr'?",
    "layers": "did you mean 'net.depth'?",
}


def near(path: str) -> str:
    """The remedy for a path that is no field: one of that name elsewhere, a near miss, or the list of what is known."""
    section, _, name = path.rpartition(".")
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    paths = TrialSpec.paths()
    for known in paths:
        if known.endswith(f".{name}"):
            return f"did you mean {known!r}?"
    names = [known.partition(".")[2] for known in paths if known.startswith(f"{section}.")]
    return hint(path, [f"{section}.{known}" for known in get_close_matches(name, names, n=1)] or paths)


def sentence(error: ValidationError, known: Iterable[str] = ()) -> str:
    """The first thing wrong, as `field = value is wrong; what instead`; `known`: keys, of a trial by default."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "extra_forbidden":
            return f"{path} is not a field; {hint(path, [*known]) if known else near(path)}"
        case "missing":
            return f"{path} is missing; add it"
        case "value_error":
            return f"{path} {message}" if message.startswith("=") else message
        case _:
            return f"{path} = {redacted(first['input'])!r} {_remedy(first)}"


def _remedy(fault: ErrorDetails) -> str:
    """What is wrong with a value and what instead, as the end of a sentence."""
    context, kind = fault.get("ctx", {}), fault["type"]
    for bound, words in BOUNDS.items():
        if bound in context:
            return f"is too {words} {context[bound]:,.15g}"
    if kind in ("enum", "literal_error"):
        known = re.findall(r"'([^']+)'", context["expected"])  # pydantic: "'auto', 'random' or 'grid'"
        return f"is unknown; {hint(fault['input'], known)}"
    return next((words for known, words in KINDS.items() if kind.startswith(known)), "cannot be used; correct it")


BOUNDS = {
    "gt": "small; give more than",
    "ge": "small; give at least",
    "lt": "large; give less than",
    "le": "large; give at most",
}
KINDS = {  # how pydantic's names of errors begin -> what is said
    "int": "is no whole number; write one, such as 8",
    "float": "is no number; write one, such as 0.1",
    "finite": "is no finite number; write one, such as 0.1",
    "bool": "is neither true nor false; write one of them",
    "string_too_short": "is empty; give a word",
    "string": "is no text; write a word, in quotes where it looks like a number",
    "tuple": "is no list; write [ONE, ANOTHER]",
    "list": "is no list; write [ONE, ANOTHER]",
    "dict": "is no mapping; write {KEY: VALUE}",
    "model": "is no mapping; write {KEY: VALUE}",
}
