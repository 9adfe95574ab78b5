"""TrivialAugment (arXiv:2103.10158): every image goes through one operation, at a random strength, all at once.

Each of the 14 operations of torchvision's `v2.TrivialAugmentWide` takes pixels from another place, or blends the image
with a poorer one, or changes tones by a table; the other two leave the image as it is. So a batch goes through one
gather, one blend and one table. On a GPU nothing waits for the host and every shape is known: a CUDA graph can hold it.
"""

import math
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Float64, Int32, Int64, UInt8
from torch import Tensor

BINS = 31  # strengths of an operation
CACHED = 2**20  # values of images that a core's cache holds, with what is computed of them
LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue in grey, as torchvision has them


class Operation(IntEnum):
    """What is done to an image, in the order of the paper's Table 1."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTO_CONTRAST = 12
    EQUALIZE = 13


SIGNED = (Operation.SHEAR_X, Operation.SHARPNESS)  # the first and the last of those of either sign


def strengths() -> Float[Tensor, "14 31"]:
    """Of each operation: shears, shifts in pixels, degrees, a blend's factor less 1, bits, or shares of 255."""
    most = {operation: 0.99 for operation in Operation if SIGNED[0] <= operation <= SIGNED[1]}
    most |= {Operation.TRANSLATE_X: 32.0, Operation.TRANSLATE_Y: 32.0, Operation.ROTATE: 135.0}
    found = torch.stack([torch.linspace(0, most.get(operation, 0.0), BINS) for operation in Operation])
    found[Operation.POSTERIZE] = (8 - torch.arange(BINS) / ((BINS - 1) / 6)).round()
    found[Operation.SOLARIZE] = torch.linspace(1, 0, BINS)
    return found


def draw_operations(shape: tuple[int, int], sides: tuple[int, int], generator: torch.Generator) -> dict[str, Tensor]:
    """For an epoch of `shape` (steps, images a step): `operation`, `strength`, and the `place` that pixels come from.

    Operation, strength and sign are uniform, as `v2.TrivialAugmentWide` draws them for images of `sides` (height,
    width).
    """
    operation = torch.randint(len(Operation), shape, generator=generator)
    strength = strengths()[operation, torch.randint(BINS, shape, generator=generator)]
    signed = (operation >= SIGNED[0]) & (operation <= SIGNED[1])
    negative = torch.rand(shape, generator=generator) < 0.5
    strength = torch.where(negative & signed, -strength, strength)
    return {"operation": operation, "strength": strength, "place": places(operation, strength, sides)}


def places(
    operation: Int64[Tensor, "s b"], strength: Float[Tensor, "s b"], sides: tuple[int, int]
) -> Float[Tensor, "s 6 b"]:
    """Six numbers a to f an image: its pixel at (x, y) is what was at (a x + b y + c, d x + e y + f).

    x and y are pixels to the right of and below the centre of an image of `sides` (height, width), and what is found
    are half widths and half heights, as in torchvision, so that both round alike. Shears leave the edge at the top or
    on the left where it is.
    """

    def only(kind: Operation) -> Float64[Tensor, "s b"]:
        return torch.where(operation == kind, strength.double(), 0.0)

    height, width = sides
    turn = only(Operation.ROTATE) * (math.pi / 180)
    cos, sin = turn.cos(), turn.sin()
    across, down = only(Operation.SHEAR_X), only(Operation.SHEAR_Y)
    right, below = only(Operation.TRANSLATE_X).trunc(), only(Operation.TRANSLATE_Y).trunc()
    x = torch.stack([cos, across - sin, across * (height / 2) - right], dim=1)
    y = torch.stack([down + sin, cos, down * (width / 2) - below], dim=1)
    return torch.cat([x.float() / (width / 2), y.float() / (height / 2)], dim=1)


def trivial_augment(
    images: UInt8[Tensor, "b h w c"],
    operation: Int64[Tensor, " b"],
    strength: Float[Tensor, " b"],
    place: Float[Tensor, "6 b"],
) -> UInt8[Tensor, "b h w c"]:
    """Image `i`, of 1 or 3 channels, after `operation[i]` of `strength[i]`, from which `place[:, i]` follows."""
    return (at_once if images.is_cuda else in_parts)(images, operation, strength, place)


def at_once(images: Tensor, operation: Tensor, strength: Tensor, place: Tensor) -> UInt8[Tensor, "b h w c"]:
    """As `trivial_augment`: all images go through all three, of which two change nothing; waits for no value."""
    moved = _moved(images, operation, strength, place)
    return _toned(_blended(moved, operation, strength, place), operation, strength, place)


def in_parts(images: Tensor, operation: Tensor, strength: Tensor, place: Tensor) -> UInt8[Tensor, "b h w c"]:
    """As `trivial_augment`, for a CPU: each image goes through its own alone, with as many as its cache holds."""
    found = images.clone()
    number = max(1, CACHED // images[0].numel())
    for change, first, last in (
        (_moved, Operation.SHEAR_X, Operation.ROTATE),
        (_blended, Operation.BRIGHTNESS, Operation.SHARPNESS),
        (_toned, Operation.POSTERIZE, Operation.EQUALIZE),
    ):
        which = torch.nonzero((operation >= first) & (operation <= last))[:, 0]
        for part in which.split(number) if len(which) else ():
            found[part] = change(images[part], operation[part], strength[part], place[:, part])
    return found


def _moved(images: Tensor, operation: Tensor, strength: Tensor, place: Tensor) -> UInt8[Tensor, "b h w c"]:
    """The pixel nearest to each place; black outside of the image."""
    del operation, strength
    number, height, width, channels = images.shape
    a, b, c, d, e, f = place[:, :, None, None]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    column = ((a * x + b * y + c + 1) * width - 1).div_(2).round_()
    row = ((d * x + e * y + f + 1) * height - 1).div_(2).round_()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    source = torch.where(inside, row * width + column, height * width).long().view(number, -1, 1)
    pixels = torch.nn.functional.pad(images.reshape(number, -1, channels), (0, 0, 0, 1))  # with a black one at the end
    return pixels.gather(1, source.expand(-1, -1, channels)).view(images.shape)


def _blended(images: Tensor, operation: Tensor, strength: Tensor, place: Tensor) -> UInt8[Tensor, "b h w c"]:
    """1 + strength of an image, the rest of a poorer one: black, even, grey or blurred."""
    del place
    pixels = images.float()
    grey = pixels
    if images.shape[3] > 1:
        red, green, blue = pixels.split(1, dim=3)
        grey = red.mul(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).floor_()
    strength = strength[:, None, None, None]
    blends: dict[Operation, tuple[Tensor | float, Tensor | float]] = {  # what the image's factor is, and the poorer one
        Operation.BRIGHTNESS: (1 + strength, 0.0),
        Operation.CONTRAST: (1 + strength, grey.mean((1, 2, 3), keepdim=True)),
        Operation.COLOR: (1 + strength, grey) if images.shape[3] > 1 else (1.0, 0.0),
        Operation.SHARPNESS: (1.0, _blurred(pixels) - pixels),  # x + s (x - y), which torchvision rounds in this form
    }
    factor = other = torch.zeros_like(strength)
    factor = factor + 1
    for kind, (scale, poorer) in blends.items():
        chosen = (operation == kind)[:, None, None, None]
        factor, other = torch.where(chosen, scale, factor), torch.where(chosen, poorer, other)
    return torch.addcmul(pixels * factor, -strength, other).clamp_(0, 255).to(torch.uint8)


def _blurred(pixels: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
    """5/13 of each pixel and 1/13 of each of the eight around it, rounded; those at the border as they are."""
    lines = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    nine = lines[:, :, :-2] + lines[:, :, 1:-1] + lines[:, :, 2:]
    blurred = pixels.clone()
    inner = blurred[:, 1:-1, 1:-1]
    inner.mul_(4).add_(nine).div_(13).round_()
    return blurred


def _toned(images: Tensor, operation: Tensor, strength: Tensor, place: Tensor) -> UInt8[Tensor, "b h w c"]:
    """Each level of each channel as a table of 256 has it."""
    del place
    number, _, _, channels = images.shape
    level = torch.arange(256, device=images.device)
    tables = 256 * torch.arange(number * channels, device=images.device).view(number, 1, 1, channels)
    entries = (images + tables).view(-1)
    counts = torch.zeros(number * channels * 256, dtype=torch.int32, device=images.device)
    counts.scatter_add_(0, entries, counts.new_ones(1).expand_as(entries))

    def only(kind: Operation) -> Bool[Tensor, "b 1 1"]:
        return (operation == kind)[:, None, None]

    strength = strength[:, None, None]
    least, most = images.amin((1, 2))[:, :, None], images.amax((1, 2))[:, :, None]
    step = 2 ** (8 - torch.where(only(Operation.POSTERIZE), strength, 8).long())
    table = level - level % step
    table = torch.where(only(Operation.SOLARIZE) & (level >= 255 * strength), 255 - level, table)
    table = torch.where(only(Operation.AUTO_CONTRAST), _stretched(least, most), table)
    table = torch.where(only(Operation.EQUALIZE), _equalised(counts.view(number, channels, 256), most), table)
    return table.to(torch.uint8).view(-1).index_select(0, entries).view(images.shape)


def _stretched(least: UInt8[Tensor, "b c 1"], most: UInt8[Tensor, "b c 1"]) -> Int64[Tensor, "b c 256"]:
    """From a channel's least level to its greatest, to all 256; of an even channel as it is."""
    level = torch.arange(256, device=least.device)
    scale = (most.float() - least) * (1 / 255)
    return torch.where(least == most, level, ((level - least.float()) / scale).clamp_(0, 255).long())


def _equalised(counts: Int32[Tensor, "b c 256"], most: UInt8[Tensor, "b c 1"]) -> Int64[Tensor, "b c 256"]:
    """By how many pixels of a channel are darker, in whole steps as in PIL; as it is where a step is none."""
    darker = counts.cumsum(2) - counts
    step = darker.gather(2, most.long()) // 255  # all but those of the greatest level
    table = ((darker + step // 2) // step.clamp(min=1)).clamp(0, 255)
    return torch.where(step > 0, table, torch.arange(256, device=counts.device))
