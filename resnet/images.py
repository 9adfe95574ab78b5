"""Images as users have them, as the bytes that a network reads: converted where that loses nothing, else refused.

Arrays and tensors are taken as they are. A PIL image is brought to the network's channels where that is exact: grey to
equal colours, equal colours to grey, a palette to its colours, an opaque picture without its opacity. For a network
that was trained on pictures of any size (`fit: centre`) it becomes what it would have become in training; another is
given it resized and cropped in the same way where its size differs, and a warning says so.
"""
# the annotations of torch and of NumPy's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import BaseModel, Field
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST, LONGEST = 2**25, 16  # what is resized may be of more pixels, or longer than so many sides, but not both
_EXACT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}  # modes of Pillow that are 8 bits of grey or RGB, or made of them


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


def batch(images: Any, spec: ImageSpec, device: torch.device) -> UInt8[Tensor, "n h w c"]:
    """Images as bytes on `device`.

    `images`: whole numbers 0..255 in an array or a tensor, (n, H, W, C), or (H, W, C) for one image, the channel left
    out where there is one alone; a PIL image; or a sequence of single images, which may be none.

    Raises a ValueError, one sentence with the remedy, for another size or number of channels, floats, numbers beyond
    bytes, more than 8 bits a channel, transparency, or colour for a network that reads grey; a TypeError for no image.
    """
    if isinstance(images, list | tuple):
        listed: Sequence[Any] = images
        parts = [_read(image, spec, f"image {k}", most=3)[0].to(device) for k, image in enumerate(listed)]
        return torch.stack(parts) if parts else torch.empty((0, *spec.shape), dtype=torch.uint8, device=device)
    return _read(images, spec, "images", most=4).to(device)


def _read(images: Any, spec: ImageSpec, name: str, most: int) -> UInt8[Tensor, "n h w c"]:
    """A picture, or an array of at most so many dimensions."""
    if _is_picture(images):
        return _picture(images, spec, "the image" if name == "images" else name)[None]
    pixels = _bytes(images, name)
    if spec.channels == 1 and pixels.shape[-2:] == spec.shape[:2] and 2 <= pixels.ndim < most:
        pixels = pixels[..., None]
    if not 3 <= pixels.ndim <= most or tuple(pixels.shape[-3:]) != spec.shape:
        raise ValueError(_misfit(tuple(pixels.shape), spec, "images have" if name == "images" else f"{name} has"))
    return pixels if pixels.ndim == 4 else pixels[None]


def centre(picture: "Image", width: int, height: int) -> "Image":
    """The picture resized, bilinear, until it just covers width x height pixels, and cropped to them at the centre.

    Raises ValueError for so long a strip that resizing it would take gigabytes.
    """
    from PIL.Image import Resampling  # noqa: PLC0415  Pillow, for pictures only

    scale = max(width / picture.width, height / picture.height)
    wide, high = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    left, top = (wide - width) // 2, (high - height) // 2
    if wide * high > max(LARGEST, LONGEST * width * height):
        size = f"{picture.width} x {picture.height}"
        raise ValueError(f"{size} pixels are too long a strip to be resized; crop it to about a square")
    return picture.resize((wide, high), Resampling.BILINEAR).crop((left, top, left + width, top + height))


def _is_picture(image: Any) -> "TypeGuard[Image]":
    pil = sys.modules.get("PIL.Image")  # who has made one has imported it
    return pil is not None and isinstance(image, pil.Image)


def _bytes(image: Any, name: str) -> Tensor:
    """An array or a tensor as uint8."""
    if isinstance(image, np.ndarray):
        image = _tensor(image, name)
    if isinstance(image, str | Path):
        raise TypeError(f"{name}: {str(image)!r} is a path; give what it holds, such as PIL.Image.open({str(image)!r})")
    if not isinstance(image, Tensor):
        kind = type(image).__name__
        raise TypeError(f"{name}: {kind} is no image; give a uint8 array or tensor, a PIL image, or a list of them")
    if image.dtype == torch.uint8:
        return image
    if image.is_floating_point():
        if image.isnan().any():
            raise ValueError(f"{name}: some values are NaN; give whole numbers from 0 to 255")
        raise ValueError(
            f"{name}: floats may be on any scale; give uint8 from 0 to 255, such as (255 * x).round() of values in 0..1"
        )
    if image.dtype == torch.bool or image.is_complex():
        raise ValueError(
            f"{name}: {str(image.dtype).removeprefix('torch.')} is no type of pixels; give uint8 from 0 to 255"
        )
    image = image.to(torch.int64)
    if image.numel() and (image.min() < 0 or image.max() > 255):
        low, high = image.min().item(), image.max().item()
        raise ValueError(f"{name}: values from {low} to {high} are no bytes; give whole numbers from 0 to 255")
    return image.to(torch.uint8)


def _tensor(array: np.ndarray[Any, Any], name: str) -> Tensor:
    """A copy, for torch takes neither foreign byte orders nor read-only memory, and has not every function for all."""
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}: {array.dtype} is no type of pixels; give uint8 from 0 to 255")
    plain = np.uint8 if array.dtype == np.uint8 else np.float64 if array.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.array(array, plain, order="C"))


def _misfit(shape: tuple[int, ...], spec: ImageSpec, subject: str) -> str:
    """Why an array of this shape is not for the network, and what to do."""
    height, width, channels = spec.shape
    wanted = f"(n, {height}, {width}, {channels})"
    if shape[-3:] == (channels, height, width):
        return (
            f"{subject} shape {shape}, the channels before the rows; give {wanted} by .movedim(-3, -1), numpy.moveaxis"
        )
    if len(shape) in (2, 3, 4) and (shape[-3:-1] == (height, width) or shape[-2:] == (height, width)):
        have = shape[-1] if shape[-3:-1] == (height, width) else 1
        if have != channels:
            return f"{subject} {have} channels, and this network reads {channels}; give {wanted}"
    remedy = "as PIL images, which are resized and cropped as in training" if spec.fit == "centre" else f"as {wanted}"
    return f"{subject} shape {shape}, and this network reads {height} x {width} pixels; give them {remedy}"


def _picture(picture: "Image", spec: ImageSpec, name: str) -> Tensor:
    """A PIL image, upright, as the network reads it."""
    from PIL import ImageOps  # noqa: PLC0415  likewise

    if picture.mode[0] in "IF":  # converting would clip the upper bits, silently
        raise ValueError(f"{name} has more than 8 bits a channel ({picture.mode}); convert it to 8 bits")
    upright = ImageOps.exif_transpose(picture)
    if spec.fit == "centre":
        fitted = centre(upright.convert("RGB"), spec.width, spec.height)
    else:
        fitted = _exactly(upright, spec.channels, name)
        if fitted.size != (spec.width, spec.height):
            warnings.warn(
                f"{name} is {fitted.width} x {fitted.height} pixels, and this network was trained on {spec.width} x "
                f"{spec.height}: it is resized and cropped at the centre",
                stacklevel=2,
            )
            fitted = centre(fitted, spec.width, spec.height)
    return torch.from_numpy(np.array(fitted)).reshape(spec.shape)


def _exactly(picture: "Image", channels: int, name: str) -> "Image":
    """The same picture in RGB (3 channels) or grey (1)."""
    if channels not in (1, 3) or picture.mode not in _EXACT:
        remedy = "convert it to RGB or L" if channels in (1, 3) else "give an array"
        raise ValueError(f"{name} is {picture.mode}, and this network reads {channels} channels; {remedy}")
    whole = picture.convert("RGBA")
    if whole.getchannel("A").getextrema() != (255, 255):
        raise ValueError(f"{name} is transparent ({picture.mode}); lay it on the background that it is to have")
    if channels == 3:
        return whole.convert("RGB")
    red, green, blue = (np.asarray(whole.getchannel(c)) for c in "RGB")
    if (red != green).any() or (red != blue).any():
        raise ValueError(f"{name} is in colour, and this network reads grey; convert it to L")
    return whole.getchannel("R")
