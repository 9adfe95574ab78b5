"""`config.json` of an exported network: all that its weights must be read with."""

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from resnet.spec import NetSpec

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 1  # of the folder; a reader refuses what is newer than itself


class ImageSpec(BaseModel, frozen=True, extra="forbid"):
    """The images that a network reads: height x width pixels, bytes, channels last."""

    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: int = Field(ge=1)
    fit: Literal["none", "centre"] = Field(
        default="none",
        description="centre: pictures of any size were resized (shorter side, bilinear) and cropped at the centre",
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.height, self.width, self.channels


class Exported(BaseModel, frozen=True):
    """The network, its classes, its images and their scaling. Keys that are unknown are of no consequence to it."""

    format: Literal[1] = FORMAT
    net: NetSpec
    classes: tuple[str, ...]  # logit k is of the class named classes[k]
    image: ImageSpec
    mean: tuple[float, ...]  # per channel, of pixels scaled to 0..1
    std: tuple[float, ...]
    weights_sha256: str  # of model.safetensors
    about: dict[str, Any] = {}  # where it comes from: for people

    @model_validator(mode="after")
    def _fits(self) -> Self:
        image, net = self.image, self.net
        if len(self.classes) != net.num_classes:
            raise ValueError(f"has {len(self.classes)} names for {net.num_classes} classes")
        if not len(self.mean) == len(self.std) == image.channels == net.in_channels:
            raise ValueError(
                f"has {len(self.mean)} means and {len(self.std)} deviations for {net.in_channels} channels"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError("has means or deviations that nothing can be scaled with")
        if image.fit == "centre" and (image.height != image.width or image.channels != 3):
            raise ValueError("fits pictures to what is no square in colour")
        net.check_image(image.height, image.width)
        return self
