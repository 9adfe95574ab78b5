"""What chance decides about an epoch, crops included, and the batches that follow, on the device."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from search.spec import Crop, TrainSpec
from search.training.batches import Resident

AREA = (0.08, 1.0)  # of a crop, as a fraction of the image's (arXiv:1409.4842, section 6)
RATIO = (3 / 4, 4 / 3)  # of width to height
TRIES = 10


def draw_boxes(shape: tuple[int, int], sides: tuple[int, int], generator: torch.Generator) -> Int64[Tensor, "s 4 b"]:
    """Crops for an epoch of `shape` (steps, images a step): top, left, height and width in pixels, inside the image.

    The distribution is that of torchvision's RandomResizedCrop: area uniform in `AREA`, logarithm of the ratio uniform
    in that of `RATIO`, drawn again where the box does not fit in `sides` (height, width), at most `TRIES` times; then
    the largest box about the centre that has an allowed ratio.
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


Draws = dict[str, Tensor]  # name -> (steps, ...): row k is all that step k depends on


@dataclass(frozen=True)
class Batch:
    """One training batch: normalised images and the numbers of their classes.

    With mixup, `mixed` are other classes and a share: each image has its label by `share`, its other by the rest.
    """

    images: Float[Tensor, "b c h w"]
    labels: Int64[Tensor, " b"]
    mixed: tuple[Int64[Tensor, " b"], Float[Tensor, ""]] | None = None

    def measured(self, measure: Callable[[Int64[Tensor, " b"]], Tensor]) -> Tensor:
        """`measure` of the labels; with mixup of both, each by its share."""
        if self.mixed is None:
            return measure(self.labels)
        others, share = self.mixed
        return share * measure(self.labels) + (1 - share) * measure(others)


def shape(n: int, batch_size: int) -> tuple[int, int]:
    """Steps of an epoch and images a step. The last incomplete batch is left out; a split below a batch is one."""
    size = min(batch_size, n)
    return n // size, size


def draw(spec: TrainSpec, n: int, sides: tuple[int, int], seed: int) -> Draws:
    """Everything random about one epoch, from `seed` alone, on the CPU.

    Same distributions as torchvision's RandomCrop(side, padding) or RandomResizedCrop(side), and RandomHorizontalFlip,
    in the order of a DataLoader that shuffles. The centres of cutout are uniform over the image (arXiv:1708.04552,
    section 3.1), the shares of mixup Beta(alpha, alpha), one a batch (arXiv:1710.09412, section 2).

    Args:
        spec: which augmentations there are.
        n: images of the split.
        sides: height and width of an image in pixels.
        seed: of this epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    steps, size = shape(n, spec.batch_size)
    draws = {"order": torch.randperm(n, generator=generator)[: steps * size].view(steps, size)}
    if spec.crop is Crop.RESIZED:
        draws["boxes"] = draw_boxes((steps, size), sides, generator)
    elif spec.crop_padding:
        draws["offsets"] = torch.randint(0, 2 * spec.crop_padding + 1, (steps, 2, size), generator=generator)
    if spec.flip:
        draws["mirrored"] = torch.rand(steps, size, generator=generator) < 0.5
    if spec.cutout:
        centres = [torch.randint(0, side, (steps, 1, size), generator=generator) for side in sides]
        draws["centres"] = torch.cat(centres, dim=1)
    if spec.mixup:
        shares = np.random.Generator(np.random.Philox(seed)).beta(spec.mixup, spec.mixup, steps)
        draws["share"] = torch.from_numpy(shares).float()
    return draws


def batch(split: Resident, spec: TrainSpec, row: Mapping[str, Tensor], streamed: Tensor | None = None) -> Batch:
    """The batch of one row of `draw`, all on the device; `streamed`: its images, where the split is streamed.

    Nothing waits for the host.
    """
    pixels = split.images.index_select(0, row["order"]) if streamed is None else streamed
    mirrored = row.get("mirrored")
    if spec.crop is Crop.RESIZED:
        images = resized_crop(pixels, row["boxes"], mirrored, (pixels.shape[1], pixels.shape[2]))
    else:
        images = crop_and_flip(pixels, spec.crop_padding, row.get("offsets"), mirrored)
    normalised, labels = split.normalise(images), split.labels[row["order"]]
    if spec.cutout:
        cut_out_(normalised, spec.cutout, row["centres"])
    if not spec.mixup:
        return Batch(normalised, labels)
    share = row["share"]
    mixed = share * normalised + (1 - share) * normalised.roll(1, 0)
    return Batch(mixed, labels, (labels.roll(1, 0), share))


def crop_and_flip(
    images: UInt8[Tensor, "b h w c"],
    padding: int,
    offsets: Int64[Tensor, "2 b"] | None,
    mirrored: Bool[Tensor, " b"] | None,
) -> UInt8[Tensor, "b h w c"]:
    """Image `i` shifted by `offsets[:, i] - padding` over black, mirrored where `mirrored[i]`: one gather for all.

    `offsets` are of rows and columns, in pixels, from 0 to 2 padding.
    """
    if offsets is None and mirrored is None:
        return images
    number, height, width, channels = images.shape
    which = torch.arange(number, device=images.device)
    padded = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding)) if padding else images
    top, left = (torch.zeros_like(which),) * 2 if offsets is None else offsets
    if mirrored is not None:  # a part of the image's mirror image, which lies as far behind it as there are images
        padded = torch.cat([padded, padded.flip(2)])
        which = which + number * mirrored
        left = torch.where(mirrored, 2 * padding - left, left)
    # Lines of the result are pieces of the bytes in memory: every byte begins one, and a few are copied.
    lines = which[:, None] * padded.shape[1] + top[:, None] + torch.arange(height, device=images.device)
    starts = (lines * padded.shape[2] + left[:, None]) * channels
    pieces = padded.reshape(-1).unfold(0, width * channels, 1)
    return pieces.index_select(0, starts.view(-1)).view(images.shape)


def cut_out_(images: Float[Tensor, "b c h w"], side: int, centres: Int64[Tensor, "2 b"]) -> None:
    """Sets a square of `side` pixels about each centre to 0, the mean of the training split; cut at the border."""

    def inside(extent: int, centre: Int64[Tensor, " b"]) -> Bool[Tensor, "b extent"]:
        place = torch.arange(extent, device=images.device) - (centre[:, None] - side // 2)
        return (place >= 0) & (place < side)

    rows, columns = map(inside, images.shape[2:], centres)
    images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
