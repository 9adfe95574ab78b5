"""A random part of each image, resized to one size: torchvision's RandomResizedCrop for a whole batch on the device."""

import math

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

AREA = (0.08, 1.0)  # of a crop, as a fraction of the image's (arXiv:1409.4842, section 6)
RATIO = (3 / 4, 4 / 3)  # of width to height
TRIES = 10


def draw_boxes(shape: tuple[int, int], sides: tuple[int, int], generator: torch.Generator) -> Int64[Tensor, "s 4 b"]:
    """Crops for an epoch, on the CPU: top, left, height and width in pixels of each, all inside the image.

    The distribution is that of torchvision's RandomResizedCrop: area uniform in `AREA`, logarithm of the ratio uniform
    in that of `RATIO`, drawn again where the box does not fit, at most `TRIES` times; then the largest box about the
    centre that has an allowed ratio.

    Args:
        shape: steps of the epoch and images a step.
        sides: height and width of every image in pixels.
        generator: on the CPU.
    """
    height, width = sides
    count = math.prod(shape)
    extents = torch.tensor(_largest(height, width))[:, None].repeat(1, count)
    placed = torch.zeros(count, dtype=torch.bool)
    for _ in range(TRIES):
        left = torch.nonzero(~placed)[:, 0]
        areas = _uniform(AREA, len(left), generator) * (height * width)
        ratios = _uniform((math.log(RATIO[0]), math.log(RATIO[1])), len(left), generator).exp()
        tried = torch.stack([(areas / ratios).sqrt(), (areas * ratios).sqrt()]).round().long()
        fits = (tried > 0).all(0) & (tried[0] <= height) & (tried[1] <= width)
        extents[:, left[fits]] = tried[:, fits]
        placed[left[fits]] = True
    spare = torch.tensor(sides)[:, None] - extents
    # The remainder of 62 random bits is uniform but for one part in 2^50.
    anywhere = torch.randint(2**62, (2, count), generator=generator) % (spare + 1)
    corners = torch.where(placed, anywhere, spare // 2)
    return torch.cat([corners, extents]).view(4, *shape).transpose(0, 1).contiguous()


def resized_crop(
    images: UInt8[Tensor, "b h w c"],
    boxes: Int64[Tensor, "4 b"],
    mirrored: Bool[Tensor, " b"] | None,
    sides: tuple[int, int],
) -> UInt8[Tensor, "b rows columns c"]:
    """The part of image `i` in `boxes[:, i]`, resized to `sides` (height, width), mirrored where `mirrored[i]`.

    Bilinear with antialiasing, at most one level of 255 from torchvision's, which rounds between its two passes. Two
    matrix products for all images; nothing waits for the host and every shape is known, so it can be captured in a CUDA
    graph. TF32 holds the weights well enough, the 8 bits of bfloat16 do not: not to be called under autocast.

    Args:
        images: pixels.
        boxes: top, left, height and width, inside the images.
        mirrored: None: no image is.
        sides: height and width of the result in pixels.
    """
    number, height, width, channels = images.shape
    top, left, high, wide = boxes
    lines, places = sides
    rows = _weights(top, high, height, lines)
    columns = _weights(left, wide, width, places)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None, None], columns.flip(1), columns)
    shrunk = rows @ images.reshape(number, height, width * channels).float()
    across = shrunk.view(number, lines, width, channels).transpose(1, 2).reshape(number, width, lines * channels)
    resized = (columns @ across).round_().to(torch.uint8)
    return resized.view(number, places, lines, channels).transpose(1, 2).contiguous()


def _weights(
    start: Int64[Tensor, " b"], extent: Int64[Tensor, " b"], side: int, size: int
) -> Float[Tensor, "b size side"]:
    """How much each of an image's `side` lines counts in each of the `size` lines that its box becomes; rows sum to 1.

    A triangle about the place in the box that the line comes from, two lines wide, or wider where the box shrinks.
    """
    scale = (extent.float() / size)[:, None, None]
    centre = (torch.arange(size, device=start.device) + 0.5)[:, None] * scale
    place = torch.arange(side, device=start.device) - start[:, None, None]
    triangle = (1 - (place + 0.5 - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    inside = triangle.where((place >= 0) & (place < extent[:, None, None]), 0.0)
    return inside / inside.sum(2, keepdim=True)


def _largest(height: int, width: int) -> tuple[int, int]:
    """Height and width of the largest box of an allowed ratio."""
    if width < RATIO[0] * height:
        return round(width / RATIO[0]), width
    if width > RATIO[1] * height:
        return height, round(height * RATIO[1])
    return height, width


def _uniform(bounds: tuple[float, float], count: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    lowest, highest = bounds
    return torch.rand(count, dtype=torch.float64, generator=generator) * (highest - lowest) + lowest
